"""Metrics that do not depend on the loss that trained a model.

Each is an entry of `METRICS`, which says everything about it, and whatever shows, compares or
computes metrics asks. This module is cheap to import; the computations load with their module.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any, Literal, get_args

from experiments.errors import UserError
from experiments.machine.plugins import FROM_OUTSIDE
from experiments.machine.signals import exits_told
from models.registry import Registry

log = logging.getLogger(__name__)

Direction = Literal["maximize", "minimize"]
Subject = Literal["reconstructions", "posterior", "likelihood", "samples", "features"]
Places = Literal["compared", "plotted", "listed"]


@dataclass(frozen=True)
class Metric:
    """What a metric measures, how, and how its values are told apart.

    Attributes:
        name: in the config and in records.
        title: for people.
        direction: which way is better.
        unit: such as dB; may be empty.
        margin: below which a difference does not matter; None for 1% of the better value.
        description: what it measures.
        subject: what it is measured on, and so what its function takes and when it is called.
            - `reconstructions`, at every validation: (x_hat, x), float32 (B, C, H, W) in [0, 1];
              gives a value for each image, (B,).
            - `posterior`, at every validation: `kl`, `mean` and `variance` of each latent unit, a
              mapping of arrays (L,) (`LatentMetrics.per_unit`); gives a number, as do the others.
            - `likelihood`, at every validation: (squared_error, kl, values), see
              `losses.likelihood.elbo`.
            - `samples`, at the end: (samples, real), uint8 (N, C, H, W) and (M, C, H, W).
            - `features`, at the end if there is a feature extractor: its features of the same
              two sets, (N, F) and (M, F).
        function: `module:function`.
        is_descriptive: whether it is neither good nor bad as such, as the price that a model pays
            for its reconstructions: more or less of it is only better if it buys something.
        places: whether levels are compared on it and it is plotted, unless told otherwise; only
            plotted; or only listed in tables, as what says the same as another one.
        home_of: the losses that train what it measures, and have a home advantage on it.
    """

    name: str
    title: str
    direction: Direction
    unit: str
    margin: float | None
    description: str
    subject: Subject
    function: str
    is_descriptive: bool = False
    places: Places = "compared"
    home_of: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.function

    def compute(self, *measured: Any) -> Any:
        """Call the function, which loads now; one from outside gets copies, to do with as it likes.

        Raises:
            ValueError: it cannot be imported, or fails.
        """
        try:
            with exits_told():
                function = resolve_name(self.function)
                return function(*(measured if self in _OWN else deepcopy(measured)))
        except Exception as error:
            raise ValueError(
                f"the metric `{self.name}` must be a function that can be imported and measures "
                f"{self.subject}, but {self.function} gives {type(error).__name__}: {error}"
            ) from error

    def number(self, *measured: Any) -> float:
        """Call the function of a subject other than reconstructions.

        Raises:
            ValueError: it cannot be imported, fails, or gives no number.
        """
        value = self.compute(*measured)
        try:
            return float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"the metric `{self.name}` must give a number, but {self.function} gave "
                f"{type(value).__name__}: {error}"
            ) from error

    @property
    def is_validated(self) -> bool:
        """Whether it is measured at every validation, so that training can be steered by it."""
        return self.subject in ("reconstructions", "posterior", "likelihood")


def _one_of(names: Any) -> tuple[str, Callable[[Any], bool]]:
    return f"one of {', '.join(map(str, get_args(names)))}", lambda value: value in get_args(names)


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_margin(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and 0 <= value < math.inf)


def _are_losses(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


_TEXT = ("a text", lambda value: isinstance(value, str))
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": (
        "letters, digits and _, a letter first, such as edge_error",
        _matches("[A-Za-z][A-Za-z0-9_]*"),
    ),
    "title": _TEXT,
    "direction": _one_of(Direction),
    "unit": _TEXT,
    "margin": ("a number of 0 or more, or None for 1% of the better value", _is_margin),
    "description": _TEXT,
    "subject": _one_of(Subject),
    "function": (
        "the text module:function",
        _matches(r"[\w.]+:[\w.]+"),
    ),
    "is_descriptive": _one_of(Literal[False, True]),
    "places": _one_of(Places),
    "home_of": ("a tuple of losses, such as ('mse',)", _are_losses),
}


def _check(name: str, metric: Metric) -> None:
    for field, (rule, holds) in _RULES.items():
        value = getattr(metric, field)
        if not holds(value):
            raise ValueError(
                f"`{field}` of a metric must be {rule}, but that of {metric.name!r} is {value!r}"
            )
    if name != metric.name:
        raise ValueError(
            f"a metric must be registered under its name, {metric.name}, but got {name!r}"
        )


METRICS: Registry[Metric] = Registry("metric", check=_check)
"""All metrics by name, in the order in which tables list them."""


def register(*metrics: Metric) -> None:
    """Add metrics.

    Raises:
        ValueError: a name is that of another metric, or a metric says what no metric is.
    """
    for metric in metrics:
        METRICS[metric.name] = metric


_HERE = "experiments.metrics"
register(
    Metric(
        "psnr", "PSNR", "maximize", "dB", 0.1,
        "peak signal-to-noise ratio of each image, averaged",
        "reconstructions", f"{_HERE}.reconstruction:psnr", home_of=("mse",),
    ),
    Metric(
        "ssim", "SSIM", "maximize", "", 0.005,
        "structural similarity (Wang et al. 2004)",
        "reconstructions", f"{_HERE}.reconstruction:ssim", home_of=("ssim",),
    ),
    Metric(
        "ms_ssim", "MS-SSIM", "maximize", "", 0.005,
        "multi-scale structural similarity (Wang et al. 2003)",
        "reconstructions", f"{_HERE}.reconstruction:ms_ssim", home_of=("ms_ssim",),
    ),
    Metric(
        "l1", "L1", "minimize", "", None,
        "mean absolute error of pixels in [0, 1]",
        "reconstructions", f"{_HERE}.reconstruction:l1", home_of=("l1",),
    ),
    Metric(
        "mse", "MSE", "minimize", "", None,
        "mean squared error of pixels in [0, 1]",
        "reconstructions", f"{_HERE}.reconstruction:mse", places="listed", home_of=("mse",),
    ),
    Metric(
        "kl", "KL", "minimize", "nats", None,
        "KL divergence of the posterior from the prior, per image",
        "posterior", f"{_HERE}.latent:kl", is_descriptive=True,
    ),
    Metric(
        "active_units", "active units", "maximize", "", None,
        "latent units in use (Burda et al. 2016)",
        "posterior", f"{_HERE}.latent:active_units", is_descriptive=True,
    ),
    Metric(
        "elbo", "ELBO", "maximize", "nats", None,
        "lower bound on the log-probability of an 8-bit image",
        "likelihood", "losses.likelihood:elbo", places="plotted",
    ),
    Metric(
        "bits_per_dim", "bits per dimension", "minimize", "bits", None,
        "the same per value: what a code needs at most",
        "likelihood", "losses.likelihood:bits_per_dim", places="listed",
    ),
    Metric(
        "laplacian_swd", "Laplacian SWD", "minimize", "", None,
        "distance of patches of prior samples to those of held-out images, octave by octave",
        "samples", f"{_HERE}.samples:laplacian_swd",
    ),
    Metric(
        "sliced_wasserstein", "sliced Wasserstein", "minimize", "", None,
        "distance of prior samples to held-out images",
        "samples", f"{_HERE}.samples:sliced_wasserstein", places="listed",
    ),
    Metric(
        "fid", "FID", "minimize", "", None,
        "Frechet distance in the features of a given extractor",
        "features", f"{_HERE}.features:fid",
    ),
    Metric(
        "kid", "KID", "minimize", "", None,
        "kernel distance in the features of a given extractor",
        "features", f"{_HERE}.features:kid",
    ),
)  # fmt: skip

_OWN = frozenset(METRICS.values())
_RELATIVE_MARGIN = 0.01


class UnknownMetricError(UserError, ValueError):
    """A metric that is not registered here."""


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UnknownMetricError: there is no such metric.
    """
    if name not in METRICS:
        raise UnknownMetricError(
            f"a metric must be one of {', '.join(METRICS)}, but got {name!r}; {FROM_OUTSIDE}"
        )
    return METRICS[name]


def measured(*subjects: Subject) -> dict[str, Metric]:
    """The metrics that are measured on these."""
    return {name: one for name, one in METRICS.items() if one.subject in subjects}


def added() -> list[Metric]:
    """The metrics that were registered from outside."""
    return [one for one in METRICS.values() if one not in _OWN]


def validated() -> list[str]:
    """The metrics that can be the objective."""
    return [name for name, one in METRICS.items() if one.is_validated]


def shown(*places: Places) -> list[str]:
    """The metrics of these places, descriptive ones last."""
    found = [one for one in METRICS.values() if one.places in places]
    return [one.name for one in sorted(found, key=lambda one: one.is_descriptive)]


@contextmanager
def failure_told() -> Iterator[None]:
    """Warn of a metric that fails, once in a process: it costs its own number, no training."""
    try:
        yield
    except ValueError as error:
        _warn(str(error))


@cache
def _warn(text: str) -> None:
    log.warning("%s", text)


def values_of(subject: Subject, *arguments: Any) -> dict[str, float]:
    """Each metric of a subject other than reconstructions, from what its function takes.

    NaN where it fails.
    """
    found = dict.fromkeys(measured(subject), math.nan)
    for name in found:
        with failure_told():
            found[name] = METRICS[name].number(*arguments)
    return found


def direction(name: str) -> Direction:
    """Which way is better for a metric.

    Raises:
        UnknownMetricError: there is no such metric.
    """
    return metric(name).direction


def margin(name: str, best: float, changed: Mapping[str, float] | None = None) -> float:
    """Below which a difference of a metric does not matter, in its unit.

    Args:
        name: of the metric.
        best: the best value, of which a margin may be a part.
        changed: margins, by metric, that a user has given.

    Raises:
        UnknownMetricError: there is no such metric.
    """
    fixed = (changed or {}).get(name, metric(name).margin)
    return _RELATIVE_MARGIN * abs(best) if fixed is None else fixed
