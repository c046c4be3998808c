"""How close samples from the prior are to held-out images, as two sets."""

from __future__ import annotations

import torch
from torch import Tensor

PROJECTIONS = 512
_BLOCK = 2**24  # values of the directions held at once, 64 MiB


def sliced_wasserstein(
    first: Tensor,
    second: Tensor,
    *,
    projections: int = PROJECTIONS,
    seed: int = 0,
    order: int = 2,
) -> float:
    """Sliced Wasserstein distance of two sets of images, (N, C, H, W) and (M, C, H, W).

    `(mean over random directions of W_p(projected sets)^p)^(1/p)` with p = `order`: Rabin, Peyre,
    Delon and Bernot 2011, "Wasserstein barycenter and its application to texture mixing";
    Bonneel, Rabin, Peyre and Pfister 2015, "Sliced and Radon Wasserstein barycenters of
    measures", definition 7. Directions are of length 1 and uniform, so that the root mean square
    of a projected difference is the root mean square difference per pixel: at order 2 a set
    shifted by s in every pixel is s away, whatever the images' size.

    Args:
        first: images in [0, 1].
        second: images in [0, 1] of the same shape, not necessarily as many.
        projections: number of directions.
        seed: of the directions; two distances compare only under the same seed and shape.
        order: 1 or 2.

    Raises:
        ValueError: the images differ in shape, a set is empty, or an option is out of range.
    """
    _check(first, second, projections, order)
    first, second = (images.detach().float().flatten(1) for images in (first, second))
    values = first.shape[1]
    generator = torch.Generator().manual_seed(seed)
    total, at_once = 0.0, max(1, _BLOCK // values)
    for start in range(0, projections, at_once):
        count = min(at_once, projections - start)
        directions = torch.randn(count, values, generator=generator)
        directions = (directions / directions.norm(dim=1, keepdim=True)).to(first.device)
        projected = [(images @ directions.T).sort(dim=0).values for images in (first, second)]
        total += float(_wasserstein_power(*projected, order=order).sum())
    return float((total / projections) ** (1 / order))


def _wasserstein_power(first: Tensor, second: Tensor, *, order: int) -> Tensor:
    """W_p^p of sorted samples (N, P) and (M, P), for each column: (P,), float64.

    Exact for any N and M: the quantile functions are steps, compared on the union of their edges.
    """
    n, m = len(first), len(second)
    steps = [torch.arange(1, count + 1, dtype=torch.float64) / count for count in (n, m)]
    edges = torch.cat(steps).sort().values
    widths = torch.diff(edges, prepend=torch.zeros(1, dtype=torch.float64))
    middles = edges - widths / 2
    rows = [(middles * count).long().clamp(max=count - 1).to(first.device) for count in (n, m)]
    gaps = first[rows[0]].double() - second[rows[1]].double()
    return (widths.to(first.device)[:, None] * gaps.abs() ** order).sum(dim=0)


def _check(first: Tensor, second: Tensor, projections: int, order: int) -> None:
    if first.ndim != 4 or first.shape[1:] != second.shape[1:] or not len(first) or not len(second):
        raise ValueError(
            "both sets must hold images of one shape, (N, C, H, W) and (M, C, H, W), "
            f"but got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if not (first.is_floating_point() and second.is_floating_point()):
        raise ValueError(
            f"both sets must be floats in [0, 1], but got {first.dtype} and {second.dtype}"
        )
    if projections < 1:
        raise ValueError(f"`projections` must be at least 1, but got {projections}")
    if order not in (1, 2):
        raise ValueError(f"`order` must be 1 or 2, but got {order}")
