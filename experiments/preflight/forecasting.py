"""What the losses of trials can pay for on their images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import losses
from experiments.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from experiments.data import ImageSet
    from experiments.preflight.capacity import Capacity
    from experiments.preflight.components import Explained, PrincipalComponents
    from losses.elbo import ELBO

_LEAST_COUNT = 64  # of components, so that a sweep over smaller latent sizes finds them once


@dataclass(frozen=True)
class Forecast:
    """What a loss can pay for.

    Attributes:
        loss: name of the distance, with the options that tell it from others.
        scale: of the loss.
        beta: weight of the KL.
        latent_dim: number of latent units.
        capacity: see `experiments.preflight.capacity`.
        degree: of the distance, see `losses.degree`; it counts under `optimal_sigma` only.
    """

    loss: str
    scale: str
    beta: float
    latent_dim: int
    capacity: Capacity
    degree: float = 2.0

    def most_kl(self) -> float:
        """Nats of KL an image that an optimum can have; under `optimal_sigma` each halving of the
        distance pays for so many more, so that nothing bounds them.
        """
        return self.capacity.gain / self.beta if self.beta else math.inf

    def record(self) -> dict[str, float | None]:
        """For result.json."""
        bounded = self.scale != "optimal_sigma"
        found = asdict(self.capacity)
        return {
            "gain": found["gain"] if bounded else None,
            "gain_of_halving": None if bounded else found["gain"],
            "most_kl": self.most_kl() if bounded else None,
            "active_units": found["active"],
            "kl": found["kl"],
            "distance": found["distance"],
            "degree": self.degree,
        }


def forecast(
    loss: ELBO,
    found: PrincipalComponents,
    *,
    name: str,
    latent_dim: int,
    measured: Explained | None = None,
) -> Forecast:
    """What a loss can pay for on images of known components.

    Args:
        loss: with its scale and beta.
        found: components of the images, as many as there are units or more.
        name: of the loss.
        latent_dim: number of units.
        measured: `components.explained` of the loss's distance, if that is known.

    Raises:
        ValueError: the distance fails, or its values make no sense.
    """
    from experiments.preflight.capacity import capacity
    from experiments.preflight.components import explained

    by_component, start, degree = measured or explained(loss.distance, found, latent_dim)
    degree = loss.degree or degree
    values = found.mean.numel()
    can = capacity(
        by_component[:latent_dim],
        start,
        scale=loss.scale,
        values=values,
        beta=loss.beta,
        free_bits=loss.free_bits,
        degree=degree,
    )
    return Forecast(name, loss.scale, loss.beta, latent_dim, can, degree)


@dataclass(frozen=True)
class Known:
    """Of the images that were looked at last: a worker's trials mostly have the same."""

    components: PrincipalComponents
    explained: dict[str, Explained]


_LAST: dict[tuple[Any, ...], Known] = {}


def known_components(images: ImageSet, train: NDArray[np.int64], latent_dim: int) -> Known:
    """The principal components of the images to train on."""
    from experiments.preflight.components import principal_components

    count = max(latent_dim, _LEAST_COUNT)
    key = (images.fingerprint, len(train), int(train.sum()), count)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = Known(principal_components(images.images, train, count), {})
    return _LAST[key]


def forecast_config(known: Known, config: Mapping[str, Any], loss: ELBO, name: str) -> Forecast:
    """Of a config; its distance is measured once."""
    from experiments.preflight.components import explained

    found = known.components
    distance = repr(sorted((k, v) for k, v in config["loss"].items() if k not in losses.SCALING))
    if distance not in known.explained:
        known.explained[distance] = explained(loss.distance, found, len(found.eigenvalues))
    start = known.explained[distance].start
    if not 0 < start < math.inf:
        raise ValueError(
            "it cannot tell these images apart: their mean distance to their mean image is "
            f"{start:g}"
        )
    latent_dim = config["latent_dim"]
    return forecast(
        loss, found, name=name, latent_dim=latent_dim, measured=known.explained[distance]
    )


def forecasts(
    wanted: Sequence[Mapping[str, Any]], images: ImageSet | None = None
) -> tuple[list[Forecast], str]:
    """What the losses of several plain configs can pay for, all on the data of the first.

    Args:
        wanted: the configs, whose losses, betas and latent sizes count.
        images: of the first, if they are loaded already.

    Returns:
        The forecasts in the order of the configs, and a title that names the data.

    Raises:
        UserError: the images cannot be had, or a loss is wrong.
    """
    from experiments import building

    images = building.load(wanted[0]) if images is None else images
    train = building.splits_of(wanted[0], images).train
    known = known_components(images, train, max(config["latent_dim"] for config in wanted))
    names = _names([config["loss"] for config in wanted])
    rows = []
    for config, name in zip(wanted, names, strict=True):
        loss = building.build_loss(config, images.image_shape)
        try:
            rows.append(forecast_config(known, config, loss, name))
        except ValueError as error:
            raise UserError(f"`loss={name}` cannot be forecast: {error}") from error
    size = "x".join(map(str, images.image_shape[1:]))
    betas = {config["beta"] for config in wanted}
    beta = f", beta={betas.pop():.3g}" if len(betas) == 1 else ""
    return rows, f"what a loss can pay for on {len(train)} images at {size}{beta}"


def _names(chosen: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of losses, with the options in which those of one name differ."""
    names = []
    for loss in chosen:
        alike = [other for other in chosen if other["name"] == loss["name"]]
        differing = [
            f" {key}={value}"
            for key, value in loss.items()
            if key not in ("name", "scale") and any(other.get(key) != value for other in alike)
        ]
        names.append(loss["name"] + "".join(differing))
    return names
