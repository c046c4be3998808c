"""A model that is alive: what it is shown and each latent unit change its pictures.

A model of a few steps is collapsed: its pictures differ by less than a grey level, so that it is
the last digits of a processor which say whether two of them are equal. So tests that look at
pictures, latents or scores take a model of this recipe, and the fixtures assert that it lives.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

ALIVE = ["lr=5e-3", "optimizer.warmup_steps=5", "max_epochs=20", "trainer.validate_every=10"]
"""Beside `tests.conftest.TINY`; what `assert_alive` wants is far exceeded with any seed.

It is not validated earlier: the checkpoint is of the best validation, and so little training
leaves it to luck whether a model that hardly lives yet is better by its PSNR.
"""

LEAST = 5
"""Grey levels, of 255, by which pictures that must differ do so on average."""


@torch.no_grad()
def assert_alive(record: Path) -> None:
    """Fail where a unit of a trial's model, or the photo it is shown, changes nothing visible."""
    from serving.model.checkpoints import load

    network = load(record).network
    ends = torch.cat([3 * sign * torch.eye(network.latent_dim) for sign in (-1, 1)])
    by_unit = _differences(*network.decode(ends).chunk(2))
    photos = torch.stack([torch.full(network.image_shape, grey) for grey in (0.0, 1.0)])
    by_photo = _differences(*network(photos).chunk(2))
    assert min(by_unit + by_photo) >= LEAST, (
        f"a test's model must be alive: from -3 to 3 each latent unit, and from a black photo to "
        f"a white one the photo, must change its pictures by {LEAST} grey levels or more, but of "
        f"{record} the units change them by {by_unit} and the photo by {by_photo}; train it "
        "longer or by another recipe (ALIVE in tests/alive.py)"
    )


def _differences(some: Tensor, others: Tensor) -> list[float]:
    """Mean absolute differences of pictures (N, C, H, W) in [0, 1], in grey levels."""
    return [round(255 * float(d), 1) for d in (some - others).abs().flatten(1).mean(1)]
