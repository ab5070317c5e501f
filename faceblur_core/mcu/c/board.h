/* The simulated board's start-up code. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

int32_t board_call(int32_t operation, const void *argument); /* semihosting */
void board_print(const char *text);
void board_print_number(uint64_t value);
void board_exit(int32_t code);
uint32_t board_stack_used(void);
void board_main(void);

#endif
