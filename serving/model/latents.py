"""Points of the latent space: draws of the prior, paths between points, their arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

TRAVERSAL = 3.0
"""How far a traversal goes to either side, in standard deviations of the prior."""


def draw(count: int, latent_dim: int, *, seed: int, temperature: float = 1.0) -> Tensor:
    """`count` draws (count, latent_dim), float32, of N(0, temperature^2).

    The i-th draw of a seed is the same however many are drawn, and on every machine.

    Raises:
        ValueError: `count` is below 1, `seed` or `temperature` negative.
    """
    if count < 1:
        raise ValueError(f"`count` must be 1 or more, but got {count}")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or more, but got {seed}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"`temperature` must be 0 or more, but got {temperature}")
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = generator.standard_normal((count, latent_dim), dtype=np.float32)
    return torch.from_numpy(drawn).mul_(temperature)


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """`steps` points (steps, L) from `start` to `end`, both (L,), which are the first and last.

    The direction turns evenly (White 2016, "Sampling generative networks") and the length changes
    evenly, so that the path does not leave the shell on which a Gaussian's mass lies. Where there
    is no one way to turn, the path is straight.

    Raises:
        ValueError: `steps` is below 2, or the points are not two of one shape (L,).
    """
    if steps < 2:
        raise ValueError(f"`steps` must be 2 or more, but got {steps}")
    if start.ndim != 1 or start.shape != end.shape:
        raise ValueError(
            f"the points must be two of one shape (L,), but got {tuple(start.shape)} and "
            f"{tuple(end.shape)}"
        )
    t = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    a, b = start.double(), end.double()
    straight = (1 - t) * a + t * b
    lengths = a.norm(), b.norm()
    if min(lengths) < 1e-6:
        return straight.float()
    u, v = a / lengths[0], b / lengths[1]
    angle = torch.arccos((u @ v).clamp(-1, 1))
    if angle < 1e-4 or torch.pi - angle < 1e-4:
        return straight.float()
    direction = (torch.sin((1 - t) * angle) * u + torch.sin(t * angle) * v) / torch.sin(angle)
    path = direction * ((1 - t) * lengths[0] + t * lengths[1])
    path[0], path[-1] = a, b
    points: Tensor = path.float()
    return points


def traverse(point: Tensor, units: Sequence[int], steps: int) -> Tensor:
    """Points (len(units) * steps, L): `point` (L,) with one unit at a time from -3 to 3.

    Raises:
        ValueError: a unit is not one of the point's, or `steps` is below 2.
    """
    if steps < 2:
        raise ValueError(f"`steps` must be 2 or more, but got {steps}")
    unknown = [unit for unit in units if not 0 <= unit < len(point)]
    if unknown:
        raise ValueError(f"a latent unit must be 0 to {len(point) - 1}, but got {unknown[0]}")
    points = point.repeat(len(units), steps, 1)
    for row, unit in enumerate(units):
        points[row, :, unit] = torch.linspace(-TRAVERSAL, TRAVERSAL, steps)
    return points.flatten(0, 1)


def average(points: Tensor) -> Tensor:
    """The mean (L,) of points (N, L)."""
    return points.mean(dim=0)


def combine(terms: Iterable[tuple[float, Tensor]]) -> Tensor:
    """The weighted sum (L,) of points (L,): smiling woman - woman + man.

    Raises:
        ValueError: there are no terms.
    """
    weighted = [weight * point for weight, point in terms]
    if not weighted:
        raise ValueError("latent arithmetic needs at least 1 term, but got 0")
    return torch.stack(weighted).sum(dim=0)
