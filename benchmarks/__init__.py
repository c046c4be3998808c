"""What is fast, and how fast: each module is a command (`python -m benchmarks.steps.losses`)."""
