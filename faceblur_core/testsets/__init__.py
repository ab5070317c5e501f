"""Test sets: what every method is compared on."""
