/* One row of nearest-neighbour resizing: which input column each output column takes is in a table. */
KERNEL void resize_row(const int8_t *in, int32_t in_step, const uint16_t *columns, int8_t *out, int32_t out_step,
                       int32_t width, int32_t channels)
{
    for (int32_t p = 0; p < width; p++, out += out_step)
        copy_bytes(out, in + columns[p] * in_step, channels);
}
