/* One row of a depthwise convolution: weights [kernel row][kernel column][output channel]. */
KERNEL void depthwise_row(const int8_t *const *x, int32_t rows, int32_t columns, int32_t step, int32_t in_channels,
                          const int8_t *weights, int32_t multiplier, const requantization_t *q, int32_t channels,
                          int8_t *out, int32_t out_step, int32_t width)
{
    for (int32_t p = 0; p < width; p++, out += out_step)
        for (int32_t o = 0; o < channels; o++) {
            const int8_t *w = weights + o;
            int32_t sum = q->bias[o];
            for (int32_t i = 0; i < rows; i++) {
                const int8_t *in = x[i] + p * step + o / multiplier;
                for (int32_t j = 0; j < columns; j++, in += in_channels, w += channels)
                    sum += *in * *w;
            }
            out[o] = clamp(requantize(sum, q->multiplier[o], q->shift[o]) + q->zero, q->low, q->high);
        }
}
