"""What a person sees of a sweep, while it runs and when it ends."""
