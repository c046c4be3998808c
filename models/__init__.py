"""Encoder/decoder networks and the LightningModule that trains them.

A network is known by its name; configs and records never name code. Adding one is a class with
the methods of `models.network.Network`, a line in `NETWORKS` and a file in `conf/model/`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.network import Network

CHECKPOINT_SCHEMA = 1
"""Of what `models.vae.VAE` adds to a checkpoint; raised when older readers can no longer read it.
"""

NETWORKS = {
    "conv": "models.conv:ConvNetwork",
    "resnet": "models.resnet:ResNetNetwork",
    "classic": "models.classic:ClassicNetwork",
}


def create(
    name: str, *, image_shape: tuple[int, int, int], latent_dim: int, **options: Any
) -> Network:
    """Build the network `name` for images of `image_shape` (C, H, W) and `latent_dim` units.

    Raises:
        ValueError: the name or an option is unknown, or the network cannot take such images.
    """
    if name not in NETWORKS:
        raise ValueError(
            f"`model.name` must be one of {', '.join(sorted(NETWORKS))}, but got {name!r}"
        )
    module, _, attribute = NETWORKS[name].partition(":")
    network_class = getattr(importlib.import_module(module), attribute)
    known = [p for p in inspect.signature(network_class).parameters if p not in _COMMON]
    for option in options:
        if option not in known:
            choices = ", ".join(known) or "none"
            raise ValueError(
                f"`model={name}` knows the options {choices}, but got `model.{option}`"
            )
    network: Network = network_class(image_shape=image_shape, latent_dim=latent_dim, **options)
    return network


def complete(model: Mapping[str, Any], *, recorded: bool = False) -> dict[str, Any]:
    """The name and the options of a network, with those that were left out.

    Args:
        model: as a config has them.
        recorded: in a record or a checkpoint. Where an older one lacks an option, its network did
            what there was before the choice.
    """
    return {**(_BEFORE if recorded else _NOW).get(str(model.get("name")), {}), **model}


_COMMON = ("image_shape", "latent_dim")
_NOW = {"conv": {"upsampling": "nearest"}}
_BEFORE = {"conv": {"upsampling": "transposed"}}
