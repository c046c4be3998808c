"""Imports what a training needs: loaded once, in the process from which the workers fork."""

from experiments.ranks import ranks_hidden

with ranks_hidden():
    import sweeps.training
    import sweeps.worker  # noqa: F401
