"""Reconstruction losses, interchangeable and on one scale.

A *distance* says how far a reconstruction is from its image (`losses.distance.Distance`); the
ELBO puts it on the scale of the KL term (`losses.elbo.ELBO`).

A distance is known by its name; configs and records never name code. Adding one is a small class,
a line in `DISTANCES` and a file in `conf/loss/`; the contract suite in `tests/test_losses.py` then
tests it. Importing this package is cheap: libraries load with the distance that needs them.
"""

from __future__ import annotations

import importlib
import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from losses.distance import Distance

SCALES = ("optimal_sigma", "sum", "mean")
AUTO = "auto"
"""The `loss.degree` that a distance declares or that is measured (see `losses.degree`)."""
SCALING = ("scale", "degree")
"""Keys of a config's `loss` that are the ELBO's, not options of the distance."""

DISTANCES = MappingProxyType(
    {
        "mse": "losses.pixel:MSE",
        "l1": "losses.pixel:L1",
        "charbonnier": "losses.pixel:Charbonnier",
        "ssim": "losses.structural.distances:SSIM",
        "ms_ssim": "losses.structural.distances:MultiScaleSSIM",
        "kornia_ssim": "losses.structural.distances:KorniaSSIM",
        "kornia_ms_ssim": "losses.structural.distances:KorniaMultiScaleSSIM",
        "kornia_charbonnier": "losses.robust:KorniaCharbonnier",
        "kornia_cauchy": "losses.robust:KorniaCauchy",
        "kornia_geman_mcclure": "losses.robust:KorniaGemanMcClure",
        "kornia_welsch": "losses.robust:KorniaWelsch",
        "mix": "losses.mix:Mix",
        "custom": "losses.custom:Custom",
    }
)
"""All of them; one from outside has no name and is `custom`."""


def names() -> list[str]:
    """Every name that `create` knows."""
    return list(DISTANCES)


def create(name: str, **options: Any) -> Distance:
    """Build the distance `name` with its options (the keys of `conf/loss/<name>.yaml`).

    Raises:
        ValueError: the name or an option is unknown, or an option is out of range.
    """
    if name not in DISTANCES:
        raise ValueError(f"`loss` must be one of {', '.join(sorted(DISTANCES))}, but got {name!r}")
    module, _, attribute = DISTANCES[name].partition(":")
    distance_class = getattr(importlib.import_module(module), attribute)
    known = list(inspect.signature(distance_class).parameters)
    for option in options:
        if option not in known:
            choices = ", ".join(known) or "none"
            raise ValueError(f"`loss={name}` knows the options {choices}, but got `loss.{option}`")
    distance: Distance = distance_class(**options)
    return distance
