"""Where trials are read from, one module a source, and how they become one table."""
