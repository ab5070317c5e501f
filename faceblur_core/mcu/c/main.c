/* An example: frames from a camera through the network to a serial line. Fill in the two functions. */
#include <stdint.h>

#include "net.h"

#if NET_IN_PLACE
static int8_t frame[NET_INPUT_BYTES > NET_OUTPUT_BYTES ? NET_INPUT_BYTES : NET_OUTPUT_BYTES] __attribute__((aligned(16)));
#define OUT frame
#else
static int8_t frame[NET_INPUT_BYTES] __attribute__((aligned(16)));
static int8_t out[NET_OUTPUT_BYTES] __attribute__((aligned(16)));
#define OUT out
#endif

/*
 * Fill NET_INPUT_BYTES bytes. A value x is stored as x / NET_INPUT_SCALE + NET_INPUT_ZERO, rounded. Of most networks x is
 * v / 255 for a pixel value v of 0..255 (where the scale is 1/255 and the zero point -128 that is v - 128); of those that were
 * trained on -1..1, such as BlazeFace, whose scale is about 2/255, it is v / 127.5 - 1.
 */
static void camera_read(int8_t *to)
{
    (void)to;
}

/* Send NET_OUTPUT_BYTES bytes; a value is (int8 - NET_OUTPUT_ZERO) * NET_OUTPUT_SCALE. */
static void uart_write(const int8_t *from)
{
    (void)from;
}

int main(void)
{
    for (;;) {
        camera_read(frame);
        net_run(frame, OUT);
        uart_write(OUT);
    }
}
