"""Figures: each a function that returns a plotly figure, all in one style (`style`).

Those of a sweep take its `runs` and a `metric`, «psnr» for the validation split or «test/psnr» for
the other; `by` names the columns that make the groups, told apart by colour and marker. A metric
or a column that is not there is a ValueError; where there is nothing to draw, the figure says why.
Points of trials carry the trial's name as `customdata[0]`, so that a page can show more of a
trial than the text that appears on hovering.

Those of pictures take images as uint8 tensors (N, C, H, W), and networks in eval mode, as
`analysis.models.load_network` gives them, by name, such as the best trial of every loss.
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
