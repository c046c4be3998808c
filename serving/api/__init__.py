"""The web service: its routes, what goes in and out, and what it refuses."""
