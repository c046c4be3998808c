"""Imports what a training needs: loaded once, in the process from which the workers fork."""

import sweeps.training
import sweeps.worker  # noqa: F401
