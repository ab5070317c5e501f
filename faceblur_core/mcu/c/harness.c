/* Runs pictures from a file of the host through the network on the simulated board and writes its outputs to another. */
#include "board.h"
#include "net.h"

#if NET_IN_PLACE
static int8_t frame[NET_INPUT_BYTES > NET_OUTPUT_BYTES ? NET_INPUT_BYTES : NET_OUTPUT_BYTES] __attribute__((aligned(16)));
#define FRAME_OUT frame
#else
static int8_t frame[NET_INPUT_BYTES] __attribute__((aligned(16)));
static int8_t frame_out[NET_OUTPUT_BYTES] __attribute__((aligned(16)));
#define FRAME_OUT frame_out
#endif

#define SYSTICK ((volatile uint32_t *)0xE000E010U)
#define HARNESS __attribute__((section(".harness")))

HARNESS static uint64_t ticks[NET_STEPS];
HARNESS static uint32_t before;

void net_profile(int step)
{
    const uint32_t now = SYSTICK[2];
    ticks[step] += (before - now) & 0xFFFFFFU;
    before = now;
}

static int32_t file_call(int32_t operation, int32_t handle, void *data, uint32_t size)
{
    const uint32_t arguments[3] = {(uint32_t)handle, (uint32_t)data, size};
    return board_call(operation, arguments);
}

static int32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    const int32_t handle = board_call(1, arguments);
    if (handle < 0)
        board_exit(4);
    return handle;
}

void board_main(void)
{
    const int32_t in = open_file("in.bin", 6, 1), out = open_file("out.bin", 7, 5);
    while (file_call(6, in, frame, NET_INPUT_BYTES) == 0) {
        for (int32_t i = 0; i < NET_STEPS; i++)
            ticks[i] = 0;
        SYSTICK[1] = 0xFFFFFFU;
        SYSTICK[2] = 0;
        SYSTICK[0] = 5;
        before = SYSTICK[2];
        net_run(frame, FRAME_OUT);
        SYSTICK[0] = 0;
        if (file_call(5, out, FRAME_OUT, NET_OUTPUT_BYTES) != 0)
            board_exit(5);
    }
    for (int32_t i = 0; i < NET_STEPS; i++) {
        board_print("ticks ");
        board_print_number(ticks[i]);
        board_print("\n");
    }
    board_print("stack ");
    board_print_number(board_stack_used());
    board_print("\n");
}
