#if defined(__ARM_FEATURE_MVE) && !defined(NET_PORTABLE)
#include <arm_mve.h>
#define NET_MVE 1
#elif defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP && defined(__ARM_FEATURE_SIMD32) && !defined(NET_PORTABLE)
#define NET_DSP 1
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-loop-distribute-patterns") /* or loops would become calls of memset and memcpy */
#endif

#define KERNEL static inline __attribute__((always_inline, unused))
#define ROW static __attribute__((noinline))

typedef uint32_t __attribute__((may_alias)) word_t;
typedef int32_t __attribute__((may_alias)) sum_t;

/* How 32-bit sums become int8: clamp(sum * multiplier * 2^(shift - 31) + zero). */
typedef struct {
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    int32_t zero, low, high;
} requantization_t;

/* TensorFlow Lite's two roundings: of the product half up, of the shift half away from zero. */
KERNEL int32_t requantize(int32_t sum, int32_t multiplier, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
    const int64_t product = (int64_t)(int32_t)((uint32_t)sum << left) * multiplier;
    const int32_t high = (int32_t)((product + (1LL << 30)) >> 31);
    const int32_t mask = (int32_t)((1U << right) - 1U);
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0));
}

KERNEL int8_t clamp(int32_t value, int32_t low, int32_t high)
{
    return (int8_t)(value < low ? low : value > high ? high : value);
}

KERNEL void copy_bytes(int8_t *out, const int8_t *in, int32_t count)
{
    if ((((uintptr_t)out | (uintptr_t)in) & 3U) == 0)
        for (; count >= 4; count -= 4, out += 4, in += 4)
            *(word_t *)(void *)out = *(const word_t *)(const void *)in;
    for (; count > 0; count--)
        *out++ = *in++;
}

KERNEL void fill_bytes(int8_t *out, int8_t value, int32_t count)
{
    const uint32_t word = 0x01010101U * (uint8_t)value;
    if (((uintptr_t)out & 3U) == 0)
        for (; count >= 4; count -= 4, out += 4)
            *(word_t *)(void *)out = word;
    for (; count > 0; count--)
        *out++ = value;
}

/* A row of the frame into a row whose pixels may have more channels. */
KERNEL void load_row(const int8_t *in, int32_t in_channels, int8_t *out, int32_t out_step, int32_t width)
{
    for (int32_t x = 0; x < width; x++, out += out_step)
        for (int32_t c = 0; c < out_step; c++)
            out[c] = c < in_channels ? *in++ : 0;
}

KERNEL void copy_row(const int8_t *in, int32_t in_step, int8_t *out, int32_t out_step, int32_t width, int32_t channels)
{
    for (int32_t x = 0; x < width; x++, in += in_step, out += out_step)
        copy_bytes(out, in, channels);
}

/* Replace each value by that of a table, -128 first; in and out may be the same. */
KERNEL void table_row(const int8_t *in, int32_t in_step, int8_t *out, int32_t out_step, int32_t width, int32_t channels,
                      const int8_t *table)
{
    for (int32_t x = 0; x < width; x++, in += in_step, out += out_step)
        for (int32_t c = 0; c < channels; c++)
            out[c] = table[in[c] + 128];
}
