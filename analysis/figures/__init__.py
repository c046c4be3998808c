"""Figures: each a function that returns a plotly figure, all in one style (`style`).

Those of a sweep take its `runs` and a `metric`, «psnr» for the validation split or «test/psnr» for
the other; `by` names the columns that make the groups, told apart by colour and marker. A metric
or a column that is not there is a ValueError; where there is nothing to draw, the figure says why.
Points of trials carry the trial's name as `customdata[0]`, so that a page can show more of a
trial than the text that appears on hovering.

Those of pictures take images as uint8 tensors (N, C, H, W), and networks in eval mode, as
`analysis.trained.models.load_network` gives them, by name, such as the best trial of every loss.
"""

from analysis.figures.decisions import effects as effects
from analysis.figures.decisions import pairs as pairs
from analysis.figures.learning import learning_curves as learning_curves
from analysis.figures.learning import pruning as pruning
from analysis.figures.matrices import home_advantage as home_advantage
from analysis.figures.matrices import latent_factors as latent_factors
from analysis.figures.pictures import interpolation as interpolation
from analysis.figures.pictures import nearest_training_images as nearest_training_images
from analysis.figures.pictures import reconstructions as reconstructions
from analysis.figures.pictures import samples as samples
from analysis.figures.pictures import traversals as traversals
from analysis.figures.rate import rate_distortion as rate_distortion
from analysis.figures.search import importance as importance
from analysis.figures.search import pareto_front as pareto_front
from analysis.figures.search import slices as slices
