/*
 * One row of a convolution. Weights come in pairs of output channels, byte by byte: [pair][kernel row][inputs][2], with
 * the inputs of a kernel row filled up by zeros to a multiple of 4, and a last channel without a partner paired with zeros.
 *
 * x: where the first window begins, one pointer for each kernel row; length: inputs of a kernel row; step: bytes from one
 * window to the next; channels: of the output; out_step: bytes from one output pixel to the next.
 */
#if defined(NET_MVE)

/*
 * sums[0..3] += x * (first channel of a pair) for four pixels, sums[4..7] likewise for the second.
 *
 * rows: pointers to the inputs of the four pixels, four for each kernel row, and a zero behind them; w: the weights;
 * size: inputs of a kernel row, in sixteens and what is left. Accumulators must be even registers.
 */
static __attribute__((naked, noinline)) void dot_4x2(const int8_t *const *rows __attribute__((unused)),
                                                     const int8_t *w __attribute__((unused)),
                                                     int32_t *sums __attribute__((unused)),
                                                     const int32_t *size __attribute__((unused)))
{
    __asm__ volatile("push {r0, r2-r11, lr}\n"
                     "ldm r2, {r0, r2, r4, r6, r8, r10, r12, lr}\n"
                     "1:\n" /* the next kernel row */
                     "ldr r11, [sp]\n"
                     "ldm r11!, {r3, r5, r7, r9}\n"
                     "cmp r3, #0\n"
                     "beq 4f\n"
                     "str r11, [sp]\n"
                     "ldr r11, [sp, #8]\n"
                     "ldr r11, [r11]\n"
                     "cmp r11, #0\n"
                     "beq 3f\n"
                     "2:\n" /* sixteen inputs */
                     "vld20.8 {q0, q1}, [r1]\n"
                     "vld21.8 {q0, q1}, [r1]!\n"
                     "vldrb.8 q2, [r3], #16\n"
                     "vldrb.8 q3, [r5], #16\n"
                     "vmladava.s8 r0, q2, q0\n"
                     "vmladava.s8 r8, q2, q1\n"
                     "vmladava.s8 r2, q3, q0\n"
                     "vmladava.s8 r10, q3, q1\n"
                     "vldrb.8 q2, [r7], #16\n"
                     "vldrb.8 q3, [r9], #16\n"
                     "vmladava.s8 r4, q2, q0\n"
                     "vmladava.s8 r12, q2, q1\n"
                     "vmladava.s8 r6, q3, q0\n"
                     "vmladava.s8 lr, q3, q1\n"
                     "subs r11, r11, #1\n"
                     "bne 2b\n"
                     "3:\n" /* what is left: inputs behind the end count as zeros */
                     "ldr r11, [sp, #8]\n"
                     "ldr r11, [r11, #4]\n"
                     "cmp r11, #0\n"
                     "beq 1b\n"
                     "vctp.8 r11\n"
                     "vld20.8 {q0, q1}, [r1]\n"
                     "vld21.8 {q0, q1}, [r1]\n"
                     "add r1, r1, r11, lsl #1\n"
                     "vpstt\n"
                     "vldrbt.8 q2, [r3]\n"
                     "vldrbt.8 q3, [r5]\n"
                     "vmladava.s8 r0, q2, q0\n"
                     "vmladava.s8 r8, q2, q1\n"
                     "vmladava.s8 r2, q3, q0\n"
                     "vmladava.s8 r10, q3, q1\n"
                     "vpstt\n"
                     "vldrbt.8 q2, [r7]\n"
                     "vldrbt.8 q3, [r9]\n"
                     "vmladava.s8 r4, q2, q0\n"
                     "vmladava.s8 r12, q2, q1\n"
                     "vmladava.s8 r6, q3, q0\n"
                     "vmladava.s8 lr, q3, q1\n"
                     "b 1b\n"
                     "4:\n"
                     "ldr r3, [sp, #4]\n"
                     "stm r3, {r0, r2, r4, r6, r8, r10, r12, lr}\n"
                     "pop {r0, r2-r11, pc}\n");
}

/* Requantize four pixels of one channel and store them. */
KERNEL void store_four(int32x4_t v, const requantization_t *q, int32_t channel, int8_t *out, uint32x4_t places)
{
    const int32_t shift = q->shift[channel];
    if (!NET_SHIFTS_RIGHT && shift > 0)
        v = vshlq_r_s32(v, shift);
    v = vqrdmulhq_n_s32(v, q->multiplier[channel]);
    if (NET_SHIFTS_RIGHT || shift < 0) {
        v = vqaddq_s32(v, vshrq_n_s32(v, 31)); /* half away from zero */
        v = vrshlq_n_s32(v, shift);
    }
    v = vaddq_n_s32(v, q->zero);
    v = vminq_s32(vmaxq_s32(v, vdupq_n_s32(q->low)), vdupq_n_s32(q->high));
    vstrbq_scatter_offset_s32(out, places, v);
}

KERNEL void conv_row(const int8_t *const *x, int32_t rows, int32_t length, int32_t step, const int8_t *weights,
                     const requantization_t *q, int32_t channels, int8_t *out, int32_t out_step, int32_t width,
                     int8_t *scratch)
{
    const int32_t padded = (length + 3) & ~3;
    const int32_t size[2] = {padded / 16, padded % 16};
    const int8_t *table[NET_MOST_ROWS * 4 + 4];
    int32_t sums[8];
    (void)scratch;
    for (int32_t p = 0; p < width; p += 4, out += 4 * out_step) {
        const int32_t p1 = p + 1 < width ? 1 : 0, p2 = p + 2 < width ? 2 : p1, p3 = p + 3 < width ? 3 : p2;
        const int8_t *w = weights;
        uint32x4_t places = vdupq_n_u32(0);
        places = vsetq_lane_u32((uint32_t)(p1 * out_step), places, 1);
        places = vsetq_lane_u32((uint32_t)(p2 * out_step), places, 2);
        places = vsetq_lane_u32((uint32_t)(p3 * out_step), places, 3);
        for (int32_t i = 0; i < rows; i++) {
            table[i * 4] = x[i] + p * step;
            table[i * 4 + 1] = table[i * 4] + p1 * step;
            table[i * 4 + 2] = table[i * 4] + p2 * step;
            table[i * 4 + 3] = table[i * 4] + p3 * step;
        }
        table[rows * 4] = 0;
        for (int32_t o = 0; o < channels; o += 2, w += rows * padded * 2) {
            vstrwq_s32(sums, vdupq_n_s32(q->bias[o]));
            vstrwq_s32(sums + 4, vdupq_n_s32(o + 1 < channels ? q->bias[o + 1] : 0));
            dot_4x2(table, w, sums, size);
            store_four(vldrwq_s32(sums), q, o, out + o, places);
            if (o + 1 < channels)
                store_four(vldrwq_s32(sums + 4), q, o + 1, out + o + 1, places);
        }
    }
}

#elif defined(NET_DSP)

/*
 * sums[0..3] += x * (first channel of a pair) for four pixels, sums[4..7] likewise for the second.
 *
 * x: 16-bit inputs, [inputs / 2][4 pixels][2]; w: up to `end`, a multiple of 4 inputs. PAIRS() has made the weights of two
 * channels one 16-bit number, 256 * second + first. Multiplied as it is, it gives 256 * (second's sum) + (first's sum);
 * so only the first channel's weights need to be unpacked. Exact for at most 512 inputs at a time.
 */
static __attribute__((naked, noinline)) void dot_4x2(const int8_t *x __attribute__((unused)),
                                                     const int8_t *w __attribute__((unused)),
                                                     sum_t *sums __attribute__((unused)),
                                                     const int8_t *end __attribute__((unused)))
{
#define TWO_INPUTS                \
    "ldr r10, [r1], #4\n"         \
    "ldrd r12, lr, [r0, #8]\n"    \
    "sxtb16 r11, r10\n"           \
    "smlad r4, r12, r11, r4\n"    \
    "smlad r8, r12, r10, r8\n"    \
    "smlad r5, lr, r11, r5\n"     \
    "smlad r9, lr, r10, r9\n"     \
    "ldrd r12, lr, [r0], #16\n"   \
    "smlad r2, r12, r11, r2\n"    \
    "smlad r6, r12, r10, r6\n"    \
    "smlad r3, lr, r11, r3\n"     \
    "smlad r7, lr, r10, r7\n"
    __asm__ volatile("push {r2-r11, lr}\n"
                     "sub r12, r3, r1\n"
                     "movs r2, #0\n"
                     "movs r3, #0\n"
                     "movs r4, #0\n"
                     "movs r5, #0\n"
                     "movs r6, #0\n"
                     "movs r7, #0\n"
                     "mov r8, #0\n"
                     "mov r9, #0\n"
                     "ands r12, r12, #24\n" /* no multiple of sixteen inputs: begin in between */
                     "beq 1f\n"
                     "cmp r12, #16\n"
                     "beq 3f\n"
                     "bhi 2f\n"
                     "b 4f\n"
                     "1:\n" TWO_INPUTS TWO_INPUTS "2:\n" TWO_INPUTS TWO_INPUTS
                     "3:\n" TWO_INPUTS TWO_INPUTS "4:\n" TWO_INPUTS TWO_INPUTS
                     "ldr r12, [sp, #4]\n"
                     "cmp r1, r12\n"
                     "blo 1b\n"
                     "sub r6, r6, r2\n"
                     "sub r7, r7, r3\n"
                     "sub r8, r8, r4\n"
                     "sub r9, r9, r5\n"
                     "ldr r0, [sp]\n"
                     "ldm r0, {r1, r10, r11, r12}\n"
                     "add r1, r1, r2\n"
                     "add r10, r10, r3\n"
                     "add r11, r11, r4\n"
                     "add r12, r12, r5\n"
                     "stm r0!, {r1, r10, r11, r12}\n"
                     "ldm r0, {r1, r10, r11, r12}\n"
                     "add r1, r1, r6, asr #8\n"
                     "add r10, r10, r7, asr #8\n"
                     "add r11, r11, r8, asr #8\n"
                     "add r12, r12, r9, asr #8\n"
                     "stm r0, {r1, r10, r11, r12}\n"
                     "pop {r2-r11, pc}\n");
#undef TWO_INPUTS
}

/* Four inputs of one pixel as two words of two 16-bit numbers. */
KERNEL void unpack(const int8_t *in, uint32_t *low, uint32_t *high)
{
    const uint32_t bytes = *(const word_t *)(const void *)in;
    uint32_t even, odd;
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(bytes));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(bytes));
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(*low) : "r"(even), "r"(odd));
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(*high) : "r"(odd), "r"(even));
}

KERNEL void widen(word_t *out, const int8_t *in)
{
    uint32_t low, high;
    unpack(in, &low, &high);
    out[0] = low;
    out[4] = high;
}

/* The inputs of a kernel row for four windows that lie one pixel apart: each pixel is unpacked once. */
KERNEL word_t *widen_overlapping(word_t *out, const int8_t *in, int32_t columns, int32_t channels)
{
    for (int32_t c = 0; c < channels; c += 4)
#pragma GCC unroll 10
        for (int32_t x = 0; x < columns + 3; x++) {
            uint32_t low, high;
            unpack(in + x * channels + c, &low, &high);
#pragma GCC unroll 10
            for (int32_t j = 0; j < columns; j++)
                if (x >= j && x - j < 4) {
                    out[(j * channels + c) * 2 + x - j] = low;
                    out[(j * channels + c) * 2 + x - j + 4] = high;
                }
        }
    return out + columns * channels * 2;
}

/* As requantize(), for shifts to the right and sums below 2^30. */
KERNEL int32_t requantize_right(int32_t sum, int32_t multiplier, int32_t right)
{
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"((int32_t)((uint32_t)sum << 1)), "r"(multiplier));
    high += high >> 31; /* half away from zero */
    return (high + (1 << (right - 1))) >> right;
}

KERNEL int8_t finished(int32_t sum, const requantization_t *q, int32_t multiplier, int32_t shift)
{
#if NET_SHIFTS_RIGHT
    const int32_t value = requantize_right(sum, multiplier, -shift) + q->zero;
#else
    const int32_t value = requantize(sum, multiplier, shift) + q->zero;
#endif
    if (q->low == -128 && q->high == 127) {
        int32_t byte;
        __asm__("ssat %0, #8, %1" : "=r"(byte) : "r"(value));
        return (int8_t)byte;
    }
    return clamp(value, q->low, q->high);
}

KERNEL word_t *widen_four(word_t *out, const int8_t *x0, const int8_t *x1, const int8_t *x2, const int8_t *x3, int32_t count)
{
    for (int32_t k = 0; k < count; k += 4, out += 8) {
        widen(out, x0 + k);
        widen(out + 1, x1 + k);
        widen(out + 2, x2 + k);
        widen(out + 3, x3 + k);
    }
    return out;
}

KERNEL void conv_row(const int8_t *const *x, int32_t rows, int32_t length, int32_t step, const int8_t *weights,
                     const requantization_t *q, int32_t channels, int8_t *out, int32_t out_step, int32_t width,
                     int8_t *scratch)
{
    const int32_t padded = (length + 3) & ~3, pair = rows * padded * 2, pairs = (channels + 1) / 2;
    const int32_t parts = rows * padded <= NET_CHUNK ? 1 : (padded + NET_CHUNK - 1) / NET_CHUNK;
    const int32_t part = (padded / parts + 3) & ~3; /* inputs that are taken in at a time */
    word_t *const wide = (word_t *)(void *)scratch;
    sum_t *const sums = (sum_t *)(void *)(scratch + NET_CHUNK * 8);

    for (int32_t p = 0; p < width; p += 4, out += 4 * out_step) {
        const int32_t count = width - p < 4 ? width - p : 4;
        const int32_t p1 = count > 1 ? step : 0, p2 = count > 2 ? 2 * step : p1, p3 = count > 3 ? 3 * step : p2;
        for (int32_t o = 0; o < pairs * 2; o++) {
            const int32_t bias = o < channels ? q->bias[o] : 0;
            sum_t *const four = sums + o * 4;
            four[0] = four[1] = four[2] = four[3] = bias;
        }
        if (rows * padded <= NET_CHUNK) {
            word_t *next = wide;
            for (int32_t i = 0; i < rows; i++) {
                const int8_t *in = x[i] + p * step;
                if (count == 4 && step % 4 == 0 && length % step == 0 && length > step && length <= 7 * step)
                    next = widen_overlapping(next, in, length / step, step);
                else
                    next = widen_four(next, in, in + p1, in + p2, in + p3, padded);
            }
            for (int32_t o = 0; o < pairs; o++)
                dot_4x2((const int8_t *)wide, weights + o * pair, sums + o * 8, weights + (o + 1) * pair);
        } else {
            for (int32_t i = 0; i < rows; i++)
                for (int32_t k = 0; k < padded; k += part) {
                    const int32_t inputs = padded - k < part ? padded - k : part;
                    const int8_t *in = x[i] + p * step + k, *w = weights + (i * padded + k) * 2;
                    widen_four(wide, in, in + p1, in + p2, in + p3, inputs);
                    for (int32_t o = 0; o < pairs; o++)
                        dot_4x2((const int8_t *)wide, w + o * pair, sums + o * 8, w + o * pair + inputs * 2);
                }
        }
        for (int32_t o = 0; o < channels; o++) {
            const int32_t multiplier = q->multiplier[o], shift = q->shift[o];
            const sum_t *const four = sums + o * 4;
            for (int32_t i = 0; i < count; i++)
                out[i * out_step + o] = finished(four[i], q, multiplier, shift);
        }
    }
}

#else

KERNEL void conv_row(const int8_t *const *x, int32_t rows, int32_t length, int32_t step, const int8_t *weights,
                     const requantization_t *q, int32_t channels, int8_t *out, int32_t out_step, int32_t width,
                     int8_t *scratch)
{
    const int32_t padded = (length + 3) & ~3;
    (void)scratch;
    for (int32_t p = 0; p < width; p++, out += out_step) {
        const int8_t *w = weights;
        for (int32_t o = 0; o < channels; o += 2) {
            int32_t a = q->bias[o], b = o + 1 < channels ? q->bias[o + 1] : 0;
            for (int32_t i = 0; i < rows; i++, w += 2 * padded) {
                const int8_t *in = x[i] + p * step;
                for (int32_t k = 0; k < length; k++) {
                    a += in[k] * w[2 * k];
                    b += in[k] * w[2 * k + 1];
                }
            }
            out[o] = clamp(requantize(a, q->multiplier[o], q->shift[o]) + q->zero, q->low, q->high);
            if (o + 1 < channels)
                out[o + 1] = clamp(requantize(b, q->multiplier[o + 1], q->shift[o + 1]) + q->zero, q->low, q->high);
        }
    }
}

#endif

/* Two 16-bit numbers, each 256 * second + first, of the bytes first, second, first, second. */
#if defined(NET_DSP)
#define PAIR(v) (((v) - (((v) & 0x80U) << 1)) & 0xFFFFU)
#define PAIRS(v) (PAIR((v) & 0xFFFFU) | (PAIR((v) >> 16) << 16))
#else
#define PAIRS(v) (v)
#endif
