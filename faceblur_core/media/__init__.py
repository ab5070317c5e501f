"""Read and write picture files without losing depth, alpha, orientation or colour profile."""
