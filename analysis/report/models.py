"""Figures of what the compared models make."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.report.content import Plot
from analysis.report.plots import plot
from analysis.runs import Runs
from experiments.errors import UserError

if TYPE_CHECKING:
    from analysis.comparison import Comparison
    from models.network import Network

log = logging.getLogger(__name__)

_MOST_MODELS = 12
_REFERENCES = 200  # images that say how much each latent unit is used


def model_plots(runs: Runs, comparison: Comparison) -> list[Plot]:
    """Samples of one model of each group, and more of the best one.

    The images are of the test split, so that no model was chosen by them. A model whose checkpoint
    or images are not here is left out, and the log says so.
    """
    from analysis import figures as f
    from analysis.trained.models import held_out, train_images

    trials = runs.trials.set_index("trial", drop=False)
    compared = representatives(comparison)[:_MOST_MODELS]
    rows = {group: trials.loc[trial].to_dict() for group, trial in compared}
    networks = _networks(rows)
    if not networks:
        return []
    best = next(iter(networks))
    network, images = networks[best], held_out(rows[best])
    made = [
        plot(
            "Samples from the prior",
            "The same image everywhere: the latents are not used. Broken ones: beta is too small.",
            *(f.samples, networks),
            wide=True,
        ),
        plot(
            f"What the latent units of {best} mean",
            "One unit a row, moved while the others stay, in the order of how much each says.",
            *(f.traversals, network, images[:_REFERENCES]),
            wide=True,
        ),
        plot(
            f"Samples of {best} above the training images nearest to them",
            "Much nearer than held-out images are: the model memorises.",
            *(f.nearest_training_images, network, train_images(rows[best])),
            held_out=images,
            wide=True,
        ),
    ]
    return [drawn for drawn in made if drawn is not None]


def representatives(comparison: Comparison) -> list[tuple[str, str]]:
    """Each level and its first trial, the best level first."""
    return [(level.name, level.own[0]) for level in comparison.ordered]


def _networks(rows: Mapping[str, dict[str, Any]]) -> dict[str, Network]:
    """Those that are here, of one shape of images."""
    from analysis.trained.models import held_out, load_network

    networks: dict[str, Network] = {}
    shapes = set()
    for group, row in rows.items():
        try:
            network, shape = load_network(row), held_out(row).shape
        except UserError as error:
            log.warning("no pictures of %s: %s", group, error)
            continue
        shapes.add(shape)
        if len(shapes) == 1:
            networks[group] = network
    return networks
