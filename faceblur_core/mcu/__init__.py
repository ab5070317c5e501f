"""From any network to a microcontroller: quantize, plan, generate C, simulate the board, report."""
