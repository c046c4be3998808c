"""Augmentation: off unless asked for, for each image on its own, reproducible, within range."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from experiments.data import Augment
from experiments.data.augment import saturated
from experiments.errors import UserError


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(64, 3, 8, 8, generator=generator)


def test_by_default_nothing_changes(images: Tensor) -> None:
    assert torch.equal(Augment()(images), images)


def test_a_flip_mirrors_about_half_of_the_images_and_nothing_else(images: Tensor) -> None:
    torch.manual_seed(0)
    flipped = Augment(flip=True)(images)
    mirrored = (flipped == images.flip(3)).flatten(1).all(dim=1)
    kept = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all()
    assert 16 < mirrored.sum() < 48


def test_crops_are_parts_of_their_images_at_their_size() -> None:
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij"
    )
    x = torch.stack([rows, columns, torch.zeros(32, 32)]).expand(200, -1, -1, -1)
    out = Augment(crop=0.5)(x)
    assert out.shape == x.shape
    spans = out[:, :2].flatten(2).amax(2) - out[:, :2].flatten(2).amin(2)  # of rows, of columns
    torch.testing.assert_close(spans[:, 0], spans[:, 1], atol=0.03, rtol=0)
    assert 0.45 < spans.min() < 0.6
    assert 0.9 < spans.max() <= 1
    centres = out[:, :2].mean((2, 3))
    assert len(torch.unique(centres, dim=0)) == 200
    assert (centres.mean(0) - 0.5).abs().max() < 0.05
    assert torch.equal(Augment(crop=1.0)(x), x)


@pytest.mark.parametrize("crop", [0, -0.1, 1.5, float("nan")])
def test_a_crop_out_of_range_is_refused(crop: float) -> None:
    with pytest.raises(UserError, match=r"`data\.crop` must be above 0, at most 1, but got"):
        Augment(crop=crop)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_mild_differs_between_images_and_stays_in_range(
    images: Tensor, channels: int
) -> None:
    torch.manual_seed(0)
    x = images[:1, :channels].expand(64, -1, -1, -1)
    out = Augment(jitter=0.1)(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert out.min() >= 0
    assert out.max() <= 1
    changes = (out - x).abs().flatten(1).mean(dim=1)
    assert len(torch.unique(changes)) == 64
    assert 0 < changes.mean() < 0.1


def test_black_and_white_images_stay_finite_and_in_range() -> None:
    x = torch.cat([torch.zeros(4, 3, 8, 8), torch.ones(4, 3, 8, 8)])
    out = Augment(flip=True, jitter=0.5)(x)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize(
    "settings", [{"flip": True}, {"crop": 0.8}, {"jitter": 0.2}, {"flip": True, "jitter": 0.2}]
)
def test_the_same_seed_gives_the_same_images(images: Tensor, settings: dict[str, float]) -> None:
    augment = Augment(**settings)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.manual_seed(1)
        first = augment(images)
        second = augment(images)
        torch.manual_seed(1)
        again = augment(images)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("jitter", [-0.1, 1.5, float("nan")])
def test_a_jitter_out_of_range_is_refused(jitter: float) -> None:
    with pytest.raises(UserError, match=r"`data\.jitter` must be in \[0, 1\], but got"):
        Augment(jitter=jitter)


def test_saturation_is_that_of_kornia(images: Tensor) -> None:
    import kornia.enhance

    factor = torch.linspace(0, 2, len(images))
    grey = images.mean(1, keepdim=True).expand_as(images)
    for x in (images, grey):
        expected = kornia.enhance.adjust_saturation(x, factor)
        torch.testing.assert_close(
            saturated(x, factor.view(-1, 1, 1, 1)), expected, atol=1e-5, rtol=0
        )
