"""A tabular benchmark for the tuning of VAEs, and searches that are replayed against it."""
