/* One row of a padded tensor; in is NULL where the row lies outside of the picture. */
KERNEL void pad_row(const int8_t *in, int32_t in_step, int32_t in_width, int32_t in_channels, int32_t left, int32_t front,
                    int8_t *out, int32_t out_step, int32_t width, int32_t channels, int8_t value)
{
    for (int32_t p = 0; p < width; p++, out += out_step) {
        fill_bytes(out, value, channels);
        if (in && p >= left && p - left < in_width)
            copy_bytes(out + front, in + (p - left) * in_step, in_channels);
    }
}
