"""A trained network scored on a split, drawn, and looked at for what is wrong with it."""
