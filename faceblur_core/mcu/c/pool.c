/* One row of pooling over the rows x[0..rows); columns outside of the picture do not count. */
KERNEL void max_row(const int8_t *const *x, int32_t rows, int32_t columns, int32_t step, int32_t left, int32_t in_width,
                    int32_t in_step, int8_t *out, int32_t out_step, int32_t width, int32_t channels, int32_t low, int32_t high)
{
    for (int32_t p = 0; p < width; p++, out += out_step) {
        const int32_t begin = p * step - left, end = begin + columns;
        const int32_t first = begin < 0 ? 0 : begin, last = end > in_width ? in_width : end;
#if defined(NET_MVE)
        for (int32_t c = 0; c < channels; c += 16) {
            const mve_pred16_t rest = vctp8q((uint32_t)(channels - c));
            int8x16_t most = vdupq_n_s8((int8_t)low);
            for (int32_t i = 0; i < rows; i++)
                for (int32_t j = first; j < last; j++)
                    most = vmaxq_s8(most, vldrbq_z_s8(x[i] + j * in_step + c, rest));
            vstrbq_p_s8(out + c, vminq_s8(most, vdupq_n_s8((int8_t)high)), rest);
        }
#else
        for (int32_t c = 0; c < channels; c++) {
            int32_t most = -128;
            for (int32_t i = 0; i < rows; i++)
                for (int32_t j = first; j < last; j++)
                    most = x[i][j * in_step + c] > most ? x[i][j * in_step + c] : most;
            out[c] = clamp(most, low, high);
        }
#endif
    }
}

KERNEL void average_row(const int8_t *const *x, int32_t rows, int32_t columns, int32_t step, int32_t left, int32_t in_width,
                        int32_t in_step, int8_t *out, int32_t out_step, int32_t width, int32_t channels, int32_t low,
                        int32_t high)
{
    for (int32_t p = 0; p < width; p++, out += out_step) {
        const int32_t begin = p * step - left, end = begin + columns;
        const int32_t first = begin < 0 ? 0 : begin, last = end > in_width ? in_width : end;
        const int32_t count = rows * (last - first);
        for (int32_t c = 0; c < channels; c++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < rows; i++)
                for (int32_t j = first; j < last; j++)
                    sum += x[i][j * in_step + c];
            out[c] = clamp(sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count, low, high);
        }
    }
}
