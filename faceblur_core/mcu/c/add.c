/* One row of the sum of two tensors, each brought to a common scale first. */
typedef struct {
    int32_t zero, multiplier, shift;
} addend_t;

KERNEL int32_t rescaled(int8_t value, const addend_t *from)
{
    return requantize((value - from->zero) * (1 << 20), from->multiplier, from->shift);
}

KERNEL void add_row(const int8_t *a, int32_t a_step, const int8_t *b, int32_t b_step, int8_t *out, int32_t out_step,
                    int32_t width, int32_t channels, const addend_t *from_a, const addend_t *from_b, const addend_t *to,
                    int32_t low, int32_t high)
{
    for (int32_t p = 0; p < width; p++, a += a_step, b += b_step, out += out_step)
        for (int32_t c = 0; c < channels; c++) {
            const int32_t sum = rescaled(a[c], from_a) + rescaled(b[c], from_b);
            out[c] = clamp(requantize(sum, to->multiplier, to->shift) + to->zero, low, high);
        }
}
