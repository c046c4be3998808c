"""What a comparison says, and how soon it is there."""
