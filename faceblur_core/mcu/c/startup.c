/* Start-up code and semihosting of the simulated board: no C library. */
#include "board.h"

extern uint32_t _data_load, _data_start, _data_end, _bss_start, _bss_end, _stack_bottom, _stack_top;

void board_reset(void);

static void board_fault(void)
{
    board_print("FAULT\n");
    board_exit(3);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &_stack_top, (const void *)board_reset, (const void *)board_fault, (const void *)board_fault,
    (const void *)board_fault, (const void *)board_fault, (const void *)board_fault, (const void *)board_fault,
    0, 0, 0, (const void *)board_fault, (const void *)board_fault, 0, (const void *)board_fault, (const void *)board_fault,
};

int32_t board_call(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void board_print(const char *text)
{
    board_call(4, text);
}

void board_print_number(uint64_t value)
{
    char digits[24];
    int32_t i = 23;
    digits[i] = 0;
    do {
        digits[--i] = (char)('0' + (int32_t)(value % 10U));
        value /= 10U;
    } while (value);
    board_print(digits + i);
}

void board_exit(int32_t code)
{
    const uint32_t reason[2] = {0x20026U, (uint32_t)code};
    board_call(0x20, reason);
    for (;;)
        ;
}

#define STACK_PAINT 0xC0DEC0DEU

uint32_t board_stack_used(void)
{
    const uint32_t *p = &_stack_bottom;
    while (p < &_stack_top && *p == STACK_PAINT)
        p++;
    return (uint32_t)((const char *)&_stack_top - (const char *)p);
}

void board_reset(void)
{
    volatile uint32_t *const coprocessors = (volatile uint32_t *)0xE000ED88U;
    uint32_t *here;
    *coprocessors |= 0xFU << 20; /* floating point and Helium */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = &_data_start, *from = &_data_load; to < &_data_end;)
        *to++ = *from++;
    for (uint32_t *p = &_bss_start; p < &_bss_end; p++)
        *p = 0;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    for (uint32_t *p = &_stack_bottom; p < here - 8; p++)
        *p = STACK_PAINT;
    board_main();
    board_exit(0);
}
