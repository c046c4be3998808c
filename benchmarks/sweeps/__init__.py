"""Sweeps: what a trial costs besides its training, and what a search finds."""
