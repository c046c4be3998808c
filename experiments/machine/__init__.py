"""This process and its machine: cores, device, signals, ranks, home, waits."""
