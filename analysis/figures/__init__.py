"""Figures: each a function that returns a plotly figure, all in one style (`style`).

Points of trials carry the trial's name as `customdata[0]`, so that a page can show more of a
trial than the text that appears on hovering.
"""

from analysis.figures.decisions import effects, pairs
from analysis.figures.learning import learning_curves, pruning
from analysis.figures.matrices import home_advantage, latent_factors
from analysis.figures.pictures import (
    interpolation,
    nearest_training_images,
    reconstructions,
    samples,
    traversals,
)
from analysis.figures.rate import rate_distortion
from analysis.figures.search import importance, pareto_front, slices

__all__ = [
    "effects",
    "home_advantage",
    "importance",
    "interpolation",
    "latent_factors",
    "learning_curves",
    "nearest_training_images",
    "pairs",
    "pareto_front",
    "pruning",
    "rate_distortion",
    "reconstructions",
    "samples",
    "slices",
    "traversals",
]
