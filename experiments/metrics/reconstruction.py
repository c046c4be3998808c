"""How close reconstructions are to their images: per image first, then averaged over the split.

SSIM and MS-SSIM are torchmetrics' numbers (the tests compare them) computed with the matrix
products of `losses.structural.similarity`, for which torchmetrics takes 1.5 to 6 ms an image each,
at 64x64 on one thread. Validation must stay cheap beside training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from experiments.metrics import METRICS, Metric, failure_told, measured
from losses.distance import per_image
from losses.structural.distances import scale_weights
from losses.structural.similarity import mean_similarity

HIGHEST_PSNR = 100.0
"""dB, of a perfect reconstruction, whose PSNR has no bound (and JSON no infinity)."""

_WINDOW, _SIGMA = 11, 1.5
_WHOLE: dict[str, Any] = {"window": _WINDOW, "sigmas": [_SIGMA], "border": "reflect"}


class ReconstructionMetrics:
    """Collects the metrics of each image of a split, batch by batch.

    Every image counts the same, so the numbers do not depend on how the split is batched.

    Args:
        names: which of the registered ones; None for all.

    Raises:
        ValueError: no names, or an unknown one.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = _checked(names)
        self.reset()

    def reset(self) -> None:
        """Forget the images seen so far."""
        self._count = 0
        self._seen: dict[str, Tensor] = {}

    def update(
        self, x_hat: Tensor, x: Tensor, whole: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Add a batch of reconstructions and images, (B, C, H, W) in [0, 1].

        `whole` makes the values (N,) of a whole batch from those (B,) of a process's part of it.
        """
        # One tensor that doubles, as many small ones between large ones would fragment the heap.
        end = self._count
        for name, own in reconstruction_metrics(x_hat, x, names=self.names).items():
            values = own if whole is None else whole(own)
            end = self._count + len(values)
            seen = self._seen.get(name)
            if seen is None or len(seen) < end:
                with torch.inference_mode(False):  # in which it may be written later
                    larger = values.new_empty(2 * end)
                larger[: self._count] = seen[: self._count] if seen is not None else 0
                self._seen[name] = seen = larger
            seen[self._count : end] = values
        self._count = end

    def per_image(self) -> dict[str, NDArray[np.float64]]:
        """Each metric of each image, (N,), in the order they were added.

        Raises:
            ValueError: no images were added.
        """
        if not self._count:
            raise ValueError("reconstruction metrics need at least 1 image, but got 0")
        return {name: self._seen[name][: self._count].double().cpu().numpy() for name in self.names}

    def compute(self) -> dict[str, float]:
        """Each metric's mean over the images."""
        return {name: float(values.mean()) for name, values in self.per_image().items()}


@torch.no_grad()
def reconstruction_metrics(
    x_hat: Tensor, x: Tensor, *, names: Sequence[str] | None = None, strict: bool = False
) -> dict[str, Tensor]:
    """Metrics of each image, (B,), for images (B, C, H, W) in [0, 1]; None for all of them.

    The data range is always 1. Computed in float32, whatever the autocast. NaN where one fails,
    unless `strict`.

    Raises:
        ValueError: the images are not two float batches of one shape, or a name is unknown; if
            `strict`, a metric fails or does not give a value for each image.
    """
    names = _checked(names)
    _check_images(x_hat, x)
    x_hat, x = x_hat.float(), x.float()
    values: dict[str, Tensor] = {}
    with torch.autocast(x.device.type, enabled=False):
        for name in names:
            values[name] = x.new_full((len(x),), torch.nan)
            with nullcontext() if strict else failure_told():
                values[name] = _of_each(METRICS[name], x_hat, x)
    return values


def _of_each(metric: Metric, x_hat: Tensor, x: Tensor) -> Tensor:
    values = metric.compute(x_hat, x)
    got = f"no tensor but a {type(values).__name__}"
    if isinstance(values, Tensor):
        if values.shape == (len(x),) and not values.is_complex():
            return values.to(x)  # the processes of a trial exchange them, and NaN where it fails
        got = f"{tuple(values.shape)} of {values.dtype}"
    raise ValueError(
        f"the metric `{metric.name}` must give a tensor of real numbers, a value for each image, "
        f"({len(x)},), but {metric.function} gave {got}"
    )


def l1(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean absolute error of each image."""
    return per_image((x_hat - x).abs())


def mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each image."""
    return per_image((x_hat - x).square())


def psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """-10 log10 of each image's mean squared error, dB, at most `HIGHEST_PSNR`."""
    return (-10 * mse(x_hat, x).log10()).clamp(max=HIGHEST_PSNR)


def ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Structural similarity of each image, in [-1, 1].

    Window 11, sigma 1.5, K1 = 0.01, K2 = 0.03, borders reflected: torchmetrics'
    `structural_similarity_index_measure`.

    Raises:
        ValueError: the images have less than 11 pixels a side.
    """
    _shorter_side(x)
    return mean_similarity(x_hat, x, **_WHOLE)


def ms_ssim(x_hat: Tensor, x: Tensor) -> Tensor:
    """Multi-scale structural similarity of each image, in [0, 1].

    torchmetrics' `multiscale_structural_similarity_index_measure`, negative terms taken as 0,
    with as many of Wang's five scales as leave room for a window (2 at 32 pixels, 3 at 64, 4 at
    128, 5 from 176), their exponents renormalised to sum to 1. torchmetrics' own rule grants four
    scales from 99 pixels only, where 88 hold a window.

    Raises:
        ValueError: the images have less than 11 pixels a side.
    """
    inner = partial(
        mean_similarity, window=_WINDOW, sigmas=[_SIGMA], border="valid", luminance=False
    )
    # As torchmetrics does: reflected borders count for the last scale only.
    *weights, last_weight = scale_weights(_shorter_side(x), _WINDOW)
    index = torch.ones_like(x[:, 0, 0, 0])
    for weight in weights:
        index = index * inner(x_hat, x).clamp_min(0) ** weight
        x_hat, x = avg_pool2d(x_hat, 2), avg_pool2d(x, 2)
    return index * mean_similarity(x_hat, x, **_WHOLE).clamp_min(0) ** last_weight


def _shorter_side(x: Tensor) -> int:
    side = min(x.shape[-2:])
    if side < _WINDOW:
        raise ValueError(
            f"it needs images of {_WINDOW} pixels or more a side, "
            f"but got {x.shape[-2]}x{x.shape[-1]}"
        )
    return side


def mean_image_psnr(train: Iterable[Tensor], held_out: Iterable[Tensor]) -> float:
    """PSNR, dB, of answering every held-out image with the mean of the training images.

    What a collapsed VAE reaches under a squared error; both are batches of uint8 images.
    """
    total, count = torch.zeros(()), 0
    for batch in train:
        total = total + batch.double().sum(dim=0) / 255
        count += len(batch)
    mean = (total / count).float()
    metrics = ReconstructionMetrics(("psnr",))
    for batch in held_out:
        x = batch.float() / 255
        metrics.update(mean.expand_as(x), x)
    return metrics.compute()["psnr"]


def _checked(names: Sequence[str] | None) -> tuple[str, ...]:
    known = measured("reconstructions")
    chosen = known if names is None else names
    if not chosen or isinstance(chosen, str) or not known.keys() >= set(chosen):
        raise ValueError(
            f"reconstruction metrics must be some of {', '.join(known)}, but got {names!r}"
        )
    return tuple(chosen)


def _check_images(x_hat: Tensor, x: Tensor) -> None:
    if x.ndim != 4 or x_hat.shape != x.shape:
        raise ValueError(
            "reconstruction metrics want two batches of images of one shape (B, C, H, W), "
            f"but got x_hat {tuple(x_hat.shape)} and x {tuple(x.shape)}"
        )
    if not (x_hat.is_floating_point() and x.is_floating_point()):
        raise ValueError(
            "reconstruction metrics want floats in [0, 1], "
            f"but got x_hat of {x_hat.dtype} and x of {x.dtype}; divide 8-bit images by 255"
        )
