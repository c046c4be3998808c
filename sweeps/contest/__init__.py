"""What a sweep compares: its levels, its design, and the race of the best of each."""
