"""What every registered network must keep: the checks of its contract."""

from __future__ import annotations

from typing import Any

import torch

import models
from models.network import Network, sample_posterior

Shape = tuple[int, int, int]
_WIDTH = {"width": 4}
_ANY_SIDE = (32,)


def shapes(name: str) -> list[Shape]:
    """Of images (C, H, W) that a network takes, the smallest first."""
    sides = models.load(name).sides or _ANY_SIDE
    return [(channels, side, side) for side in sides for channels in (3, 1)]


def little(name: str, shape: Shape | None = None, **options: Any) -> Network:
    """A network for the smallest images or those of the shape; a narrow one, if it has a width."""
    known = models.options(name)
    chosen = {key: value for key, value in {**_WIDTH, **options}.items() if key in known}
    return models.create(name, image_shape=shape or shapes(name)[0], latent_dim=5, **chosen)


def check_posterior_and_images(name: str, shape: Shape) -> None:
    """A network encodes images to a posterior and decodes latents to images."""
    network = little(name, shape)
    x = torch.rand(2, *shape)
    mean, log_variance = network.encode(x)
    assert mean.shape == log_variance.shape == (2, 5)
    images = network.decode(sample_posterior(mean, log_variance))
    assert images.shape == x.shape
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


def check_gradients(name: str) -> None:
    """Every weight gets a gradient."""
    network = little(name)
    mean, log_variance = network.encode(torch.rand(2, *network.image_shape))
    (network.decode(sample_posterior(mean, log_variance)).sum() + mean.sum()).backward()
    without = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert without == []


def check_options(name: str) -> None:
    """Each option has a default, so that configs and records may leave it out."""
    options = models.options(name)
    assert models.complete({"name": name, **options}) == {"name": name, **options}
    assert models.NETWORKS[name].before.keys() <= options.keys()
    models.create(name, image_shape=shapes(name)[0], latent_dim=2, **options)
