"""Processes that train: how they are started, what they do, what they share."""
