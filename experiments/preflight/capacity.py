"""What a loss can pay for: how much KL, and how many latent units, before anything is trained.

A VAE gains by a latent unit only if the reconstruction term falls by more than `beta` times the
KL that the unit costs. Two things follow from the scaled loss and the data alone.

The *gain* is the loss of answering every image with the mean image minus that of a perfect
reconstruction. A VAE can always answer with the mean image at no KL, so at its optimum
`beta * KL <= gain`: a bound that holds for every distance and every network.

The *linear VAE* says how many units are active. For the squared error with the weight w per value,
its optimum is probabilistic PCA with the decoder variance `beta / (2 w)` (Dai et al. 2018,
"Connections with robust PCA and the role of emergent sparsity in variational autoencoder models";
Lucas et al. 2019, "Don't blame the ELBO!"): a principal component has a unit if its eigenvalue
exceeds that variance, the unit costs `log(eigenvalue / variance) / 2` nats, and the variance is
what remains of the component. That is exact for `mse`. For another distance it is an approximation:
each component has the weight that makes leaving it out as dear as that distance says it is. Under
`optimal_sigma` a distance of degree p counts as its power 2/p, which grows with the residuals as
the squared error does and is worth the same. A deep network is not bound by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from losses import SCALES

_LEAST_SHARE = 1e-6
"""Of the mean image's distance: what is left below it is taken for nothing."""


@dataclass(frozen=True)
class Capacity:
    """Of a loss at its scale and beta, on some data.

    Attributes:
        gain: nats that a perfect reconstruction gains, or under `optimal_sigma`, whose gain has no
            bound but the floor under the logarithm, each halving of the distance.
        active: units of a linear VAE that pay for themselves.
        kl: of that linear VAE, nats per image; infinite if beta is 0.
        distance: that it is left with, the mean per pixel.
        beta_for_all: below it, every unit that carries anything would pay for itself; None if
            all do.
    """

    gain: float
    active: int
    kl: float
    distance: float
    beta_for_all: float | None


def gain(mean_distance: float, *, scale: str, values: int, degree: float = 2.0) -> float:
    """Loss of the mean image minus loss of a perfect reconstruction, nats.

    Under `optimal_sigma` the scale adapts to the distance: a perfect reconstruction would be worth
    without bound, and a halved distance is worth `N/p * log 2`, wherever it starts. That is
    returned there.

    Args:
        mean_distance: from the mean image to the images, the mean per pixel, above 0.
        scale: see `losses.elbo.reconstruction_term`.
        values: N = C * H * W, of an image.
        degree: p of the distance, see `losses.degree`.

    Raises:
        ValueError: the scale is unknown.
    """
    if scale == "optimal_sigma":
        return values / degree * math.log(2)
    return _weight(scale, values) * mean_distance


def capacity(
    explained: ArrayLike,
    mean_distance: float,
    *,
    scale: str,
    values: int,
    beta: float = 1.0,
    free_bits: float = 0.0,
    degree: float = 2.0,
) -> Capacity:
    """What the optimal linear VAE does under a loss.

    With the weight W of the mean distance in the loss (N for `sum`, 1 for `mean`, N/(2d) for
    `optimal_sigma` at its own optimum d), a unit pays for itself if W times its drop exceeds
    beta/2. For `mse` a drop is an eigenvalue of the data's covariance divided by N, and this is
    probabilistic PCA at the variance beta/(2w), w = W/N; for `optimal_sigma` and beta = 1, at the
    variance of maximum likelihood (Tipping and Bishop 1999, eq. 8).

    Args:
        explained: by how much each principal component that a unit may carry lowers the mean
            distance, (L,), 0 or more, each after those before it.
        mean_distance: from the mean image to the images, the mean per pixel.
        scale: of the loss.
        values: N = C * H * W, of an image.
        beta: weight of the KL, 0 or more.
        free_bits: nats of KL that each unit has for free, so that it is active anyway.
        degree: p of the distance, which counts under `optimal_sigma` only.

    Raises:
        ValueError: the scale is unknown, or the numbers are out of range.
    """
    each = np.asarray(explained, dtype=np.float64)
    if each.ndim != 1 or not np.isfinite(each).all() or (each < 0).any():
        raise ValueError(
            f"`explained` must be a list of numbers of 0 or more, but got {explained!r}"
        )
    if not 0 < mean_distance < math.inf or not 0 <= beta < math.inf:
        raise ValueError(
            "`mean_distance` must be above 0 and `beta` 0 or more, "
            f"but got {mean_distance!r} and {beta!r}"
        )
    power = 2 / degree if scale == "optimal_sigma" else 1.0
    descending = np.sort(_powered(each, mean_distance, power))[::-1]
    rest = max(0.0, float(mean_distance) - float(descending.sum()))
    least = _LEAST_SHARE * mean_distance
    level = _level(descending, rest, least, scale=scale, values=values, beta=beta)
    pays = int((descending > level).sum())
    nats = np.zeros(len(descending))
    with np.errstate(divide="ignore"):
        nats[:pays] = np.log(descending[:pays] / level) / 2
    left = max(least, rest + float(np.minimum(descending, level).sum()))
    return Capacity(
        gain=gain(float(mean_distance), scale=scale, values=values, degree=degree),
        active=len(descending) if free_bits > 0 else pays,
        kl=float(np.maximum(nats, free_bits).sum()),
        distance=mean_distance * (left / mean_distance) ** (1 / power),
        beta_for_all=None
        if free_bits > 0
        else _beta_for_all(descending, rest, pays, scale=scale, values=values),
    )


def _powered(
    explained: NDArray[np.float64], mean_distance: float, power: float
) -> NDArray[np.float64]:
    """What explains a power of the distance that starts where the distance does."""
    if power == 1 or not len(explained):
        return explained
    left = np.concatenate([[1.0], 1 - explained.cumsum() / mean_distance]).clip(0)
    powered: NDArray[np.float64] = -np.diff(left**power) * mean_distance
    return powered


def _level(
    descending: NDArray[np.float64],
    rest: float,
    least: float,
    *,
    scale: str,
    values: int,
    beta: float,
) -> float:
    """The distance that remains in each component that has a unit (reverse water-filling).

    Under `optimal_sigma` it is d * beta / N with d = rest + sum(min(drop, level)), which has one
    solution: the left side over the level grows with it, the right side falls.
    """
    if scale != "optimal_sigma":
        return beta / (2 * _weight(scale, values))
    if beta == 0:
        return 0.0
    for active in range(len(descending), -1, -1):
        share = values / beta - active
        level = (rest + float(descending[active:].sum())) / share if share > 0 else math.inf
        if active == 0 or level < descending[active - 1]:
            return max(level, least * beta / values)
    raise AssertionError("no unit is active at the latest")


def _beta_for_all(
    descending: NDArray[np.float64], rest: float, pays: int, *, scale: str, values: int
) -> float | None:
    """The beta at whose level the least component drowns."""
    carrying = descending[descending > 0]
    if pays >= len(carrying):
        return None
    level = float(carrying[-1])
    if scale != "optimal_sigma":
        return 2 * _weight(scale, values) * level
    return level * values / (rest + level * len(carrying))


def _weight(scale: str, values: int) -> float:
    """Of the mean distance in the loss."""
    if scale == "sum":
        return float(values)
    if scale == "mean":
        return 1.0
    raise ValueError(f"`loss.scale` must be one of {', '.join(SCALES)}, but got {scale!r}")
