"""Reconstruction losses: per-image distances by name, and the scaled ELBO (`losses.elbo`).

A distance takes `(x_hat, x)`, both `(B, C, H, W)` floats in [0, 1], and returns `(B,)`: the mean
distance per pixel and channel of each image, 0 for identical images. Each image's value depends on
that image alone, and the data range is always 1.

To add one: write a class (see `losses.pixel`), name it in `DISTANCES`, and put its options into
`conf/loss/<name>.yaml`; the contract tests then cover it.

Left out of `kornia.losses` on purpose, though they take two tensors: `psnr_loss` (minus infinity
for identical images; at scale `optimal_sigma`, `mse` trains the same thing), `mutual_information_*`
(joint histograms whose range comes from the data; not 0 for identical images), `js_div_loss_2d` and
`kl_div_loss_2d` (probability maps that sum to 1), `ssim3d_loss` (volumes),
`inverse_depth_smoothness_loss` and `total_variation` (smoothness of one image), and the
segmentation losses (dice, focal, Hausdorff, Lovasz, Tversky).

Importing this package imports neither torch nor the libraries that the distances come from.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from losses.distance import Distance

SCALES = ("optimal_sigma", "sum", "mean")

DISTANCES: dict[str, str] = {
    "mse": "losses.pixel:MSE",
    "l1": "losses.pixel:L1",
    "charbonnier": "losses.pixel:Charbonnier",
    "ssim": "losses.ssim:SSIM",
    "ms_ssim": "losses.ms_ssim:MSSSIM",
    "kornia_ssim": "losses.kornia_ssim:KorniaSSIM",
    "kornia_ms_ssim": "losses.kornia_ms_ssim:KorniaMSSSIM",
    "kornia_charbonnier": "losses.kornia_robust:KorniaCharbonnier",
    "kornia_cauchy": "losses.kornia_robust:KorniaCauchy",
    "kornia_geman_mcclure": "losses.kornia_robust:KorniaGemanMcClure",
    "kornia_welsch": "losses.kornia_robust:KorniaWelsch",
    "mix": "losses.mix:Mix",
    "custom": "losses.custom:Custom",
}


def names() -> list[str]:
    """Every name that `create` takes."""
    return list(DISTANCES)


def create(name: str, /, **options: Any) -> Distance:
    """Make the distance called `name` from its options (those of `conf/loss/<name>.yaml`).

    Raises ValueError for an unknown name or option, or a value of the wrong type or range.
    """
    if name not in DISTANCES:
        raise ValueError(f"`loss` must be one of {', '.join(names())}, but got {name!r}")
    module, _, class_name = DISTANCES[name].partition(":")
    distance_class: type[Distance] = getattr(importlib.import_module(module), class_name)
    known = list(inspect.signature(distance_class).parameters)
    for option in options:
        if option not in known:
            choices = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"{option!r} is not an option of the loss `{name}`; {choices}")
    return distance_class(**options)


def validate(distance: Distance, image_shape: tuple[int, int, int], device: str = "cpu") -> None:
    """Try the distance once on small random images, before any training.

    `image_shape` is `(C, H, W)`; `device` is where `distance` is. Raises ValueError if the distance
    cannot take such images, raises, does not return one finite value per image that is 0 for
    identical images and above the floor for others, or gives no gradient to `x_hat`.
    """
    from losses.preflight import try_once

    try_once(distance, image_shape, device)
