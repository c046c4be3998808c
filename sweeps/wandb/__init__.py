"""W&B's sweep files and agents."""
