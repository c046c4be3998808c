"""This process and its machine: cores, device, signals, home, waits."""
