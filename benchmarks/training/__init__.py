"""A whole trial: its start, its epochs, its processes, its loggers."""
