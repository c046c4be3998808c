"""What a network's latent space holds: units in use, walks through it, factors it follows.

And whether what it makes repeats what it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import entropy
from scipy.stats.contingency import crosstab
from torch import Tensor

from experiments.data import to_float
from experiments.data.cats import ACCESSORIES, BACKGROUNDS, COATS, EYES
from experiments.scoring.evaluation import to_uint8
from losses.elbo import kl_divergence
from models.network import Network

_BATCH = 256  # images at once
_BINS = 10  # of numbers, equally full


def posteriors(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of q(z|x), both (N, L) on the CPU, for uint8 images (N, C, H, W)."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        found = [network.encode(to_float(x.to(device))) for x in images.split(_BATCH)]
    mean, log_variance = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return mean, log_variance


def unit_kl(network: Network, images: Tensor) -> NDArray[np.float64]:
    """The KL of each latent unit, (L,), nats per image: how much it says about an image."""
    kl = kl_divergence(*posteriors(network, images)).double().mean(dim=0)
    found: NDArray[np.float64] = kl.numpy()
    return found


def decode(network: Network, latents: Tensor) -> Tensor:
    """Images, uint8 (N, C, H, W), of latents (N, L)."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        return torch.cat([to_uint8(network.decode(z.to(device))) for z in latents.split(_BATCH)])


def traverse(start: Tensor, unit: int, values: Tensor) -> Tensor:
    """Latents (len(values), L): `start` (L,), but for one unit that takes each of the values."""
    latents = start.repeat(len(values), 1)
    latents[:, unit] = values
    return latents


def interpolate(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Latents (steps, L) on the straight line between two, (L,), both ends included.

    Raises:
        ValueError: `steps` is less than 2.
    """
    if steps < 2:
        raise ValueError(f"an interpolation needs 2 or more steps, but got {steps}")
    return torch.lerp(first, second, torch.linspace(0, 1, steps)[:, None])


def factor_table(factors: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """What drawn images were drawn from (`ImageSet.factors`) as one column each.

    Of a colour it is the lightness (mean of red, green and blue). Kinds, such as the coat, are
    categories of whole numbers; angles that go round stay as they are.
    """
    kinds = {
        "coat": COATS, "background": BACKGROUNDS, "accessory": ACCESSORIES, "eye_colour": EYES,
        "tongue": ("no", "yes"), "odd_eyed": ("no", "yes"),
    }  # fmt: skip
    columns: dict[str, Any] = {}
    for name, values in factors.items():
        if name in kinds:
            columns[name] = pd.Categorical.from_codes(values.astype(int), kinds[name])
        elif values.ndim == 2:
            columns[f"{name} lightness"] = values.mean(axis=1)
        else:
            columns[name] = values
    return pd.DataFrame(columns)


def information(latents: NDArray[Any], factors: pd.DataFrame) -> pd.DataFrame:
    """The share of each factor's entropy that each latent unit knows: units (rows) by factors.

    Mutual information over the entropy of the factor, of numbers in 10 equally full bins (as in
    the gap of Chen et al. 2018, "Isolating sources of disentanglement"), less what independent
    samples of this number would show on average (Miller and Madow); at least 0.

    Args:
        latents: (N, L), such as the means of posteriors.
        factors: N rows, of `factor_table`.

    Raises:
        ValueError: their numbers of rows differ, or there are fewer than 2.
    """
    count = len(latents)
    if count != len(factors) or count < 2:
        raise ValueError(
            "latents and factors must have the same rows, 2 or more, "
            f"but got {count} and {len(factors)}"
        )
    units = [_binned(column) for column in latents.T]
    found = {
        name: [_shared(unit, codes) for unit in units]
        for name, codes in ((str(n), _codes(factors[n])) for n in factors)
    }
    return pd.DataFrame(found, index=pd.RangeIndex(latents.shape[1], name="unit"))


def _codes(values: pd.Series) -> NDArray[np.intp]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes: NDArray[np.intp] = values.cat.codes.to_numpy().astype(np.intp)
        return codes
    return _binned(values.to_numpy())


def _binned(values: NDArray[Any]) -> NDArray[np.intp]:
    edges = np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def _shared(unit: NDArray[np.intp], factor: NDArray[np.intp]) -> float:
    """Mutual information of two labellings over the entropy of the second."""
    table = crosstab(unit, factor).count
    of_factor = entropy(table.sum(axis=0))
    if of_factor == 0:
        return 0.0
    mutual = entropy(table.sum(axis=1)) + of_factor - entropy(table.ravel())
    chance = (table.shape[0] - 1) * (table.shape[1] - 1) / (2 * len(unit))
    return float(max(0.0, mutual - chance) / of_factor)


def nearest(images: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For each image, the nearest one among others, by the root mean squared error of pixels.

    Args:
        images: uint8 (N, C, H, W).
        among: uint8 (M, C, H, W), M >= 1.

    Returns:
        Indices into `among`, (N,), and the errors, (N,), of pixels in [0, 1].

    Raises:
        ValueError: the two hold images of different shapes, or one of them none.
    """
    if images.shape[1:] != among.shape[1:] or not len(images) or not len(among):
        raise ValueError(
            "images and those to search among must have one shape (N, C, H, W), N >= 1, "
            f"but got {tuple(images.shape)} and {tuple(among.shape)}"
        )
    flat = images.flatten(1).float() / 255
    found = []
    for chunk in among.split(_BATCH):
        # Not by matrix products, whose rounding would hide exact copies.
        distances = torch.cdist(
            flat, chunk.flatten(1).float() / 255, compute_mode="donot_use_mm_for_euclid_dist"
        )
        found.append(distances.min(dim=1))
    errors, chunks = torch.stack([part.values for part in found]).min(dim=0)
    places = torch.stack([part.indices for part in found]).gather(0, chunks[None])[0]
    return places + chunks * _BATCH, errors / flat.shape[1] ** 0.5
