"""What is fast, and how fast: `python -m benchmarks.ROOM.NAME` from the project's folder."""
