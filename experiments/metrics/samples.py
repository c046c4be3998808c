"""How close samples from the prior are to held-out images, as two sets."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

PROJECTIONS = 512
_KID_SUBSETS = 50


def sliced_wasserstein(
    first: Tensor, second: Tensor, *, projections: int = PROJECTIONS, seed: int = 0
) -> float:
    """Sliced 2-Wasserstein distance of two sets of images, (N, C, H, W) and (M, C, H, W).

    The root of the mean over random directions of the squared 2-Wasserstein distance of the
    projected sets (Rabin et al. 2011; Bonneel et al. 2015, "Sliced and Radon Wasserstein
    barycenters of measures"). Directions have the norm of an image of ones, sqrt(D), so that a
    shift of all pixels by s in a random direction of the pixel space counts s whatever the size.

    Args:
        first: images in [0, 1].
        second: images in [0, 1] of the same shape, not necessarily as many.
        projections: number of directions.
        seed: of the directions.

    Raises:
        ValueError: the images differ in shape.
    """
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"both sets must hold images of one shape, but got {tuple(first.shape[1:])} "
            f"and {tuple(second.shape[1:])}"
        )
    values = first[0].numel()
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(values, projections, generator=generator)
    directions = directions / directions.norm(dim=0)
    directions = directions.to(first.device)
    projected = [
        (images.float().flatten(1) @ directions).sort(dim=0).values for images in (first, second)
    ]
    return float(_squared_wasserstein(*projected).mean().sqrt())


def _squared_wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of sorted samples (N, P) and (M, P), for each column.

    Exact for any N and M: the quantile functions are steps, compared on the union of their edges.
    """
    n, m = len(first), len(second)
    edges = torch.cat([torch.arange(1, n + 1) / n, torch.arange(1, m + 1) / m]).double()
    edges = edges.sort().values
    widths = torch.diff(edges, prepend=torch.zeros(1, dtype=torch.float64))
    middles = edges - widths / 2
    rows = [(middles * count).long().clamp(max=count - 1).to(first.device) for count in (n, m)]
    gaps = first[rows[0]].double() - second[rows[1]].double()
    return (widths.to(first.device)[:, None] * gaps.square()).sum(dim=0)


def feature_distances(real: Tensor, generated: Tensor, extractor: str | Path) -> dict[str, float]:
    """FID and KID of two sets of uint8 images (N, C, H, W), by torchmetrics.

    Args:
        real: uint8 images.
        generated: uint8 images of the same shape.
        extractor: a TorchScript file that maps uint8 images (B, 3, H, W) to features (B, F).

    Raises:
        ValueError: the file cannot be read or does not map so.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    network = load_extractor(Path(extractor), real[:2])
    subset = max(2, min(len(real), len(generated)) // 2)
    fid = FrechetInceptionDistance(feature=network)
    kid = KernelInceptionDistance(feature=network, subsets=_KID_SUBSETS, subset_size=subset)
    for metric in (fid, kid):
        for images, is_real in ((real, True), (generated, False)):
            for batch in _rgb(images).split(64):
                metric.update(batch, real=is_real)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of KID's subsets
        return {"fid": float(fid.compute()), "kid": float(kid.compute()[0])}


def _rgb(images: Tensor) -> Tensor:
    return images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1)


def load_extractor(path: Path, images: Tensor) -> nn.Module:
    """Load a TorchScript feature extractor and try it on two uint8 images (2, C, H, W).

    Raises:
        ValueError: the file cannot be read, or does not map images to features (B, F).
    """
    if not path.is_file():
        raise ValueError(
            f"`evaluation.feature_extractor` must be a TorchScript file, but {path} does not exist"
        )
    try:
        network: nn.Module = torch.jit.load(str(path), map_location="cpu").eval()
        with torch.no_grad():
            features = network(_rgb(images))
    except RuntimeError as error:
        raise ValueError(
            f"`evaluation.feature_extractor` must be a TorchScript file that maps uint8 images "
            f"(B, 3, H, W) to features (B, F), but {path} fails: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"`evaluation.feature_extractor` must give features (B, F), but {path} gave {got} "
            "for a batch of 2"
        )
    network.num_features = features.shape[1]  # type: ignore[assignment]
    return network
