"""A trained model: its checkpoint, what names one, what it was trained on, what it can do."""
