"""Encoder/decoder networks and the LightningModule that trains them.

A network is known by its name; configs and records never name code. Adding one is a class of
`models.network.Network`, which says what images it takes and, by its constructor, which options it
has, and a line in `NETWORKS`. A file in `conf/model/` may comment on the options.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from models.registry import Registry

if TYPE_CHECKING:
    from models.network import Network

CHECKPOINT_SCHEMA = 1
"""Of what `models.vae.VAE` adds to a checkpoint; raised when older readers can no longer read it.
"""

_COMMON = ("image_shape", "latent_dim")  # of every network's constructor


@dataclass(frozen=True)
class Entry:
    """A network in the registry.

    Attributes:
        path: `module:class`, loaded when it is used.
        before: of options that came later, what networks did before; records may lack them.
    """

    path: str
    before: Mapping[str, Any] = field(default_factory=dict)


NETWORKS = Registry(
    "network",
    {
        "conv": Entry("models.conv:ConvNetwork", before={"upsampling": "transposed"}),
        "resnet": Entry("models.resnet:ResNetNetwork"),
        "classic": Entry("models.classic:ClassicNetwork"),
    },
)


def load(name: str) -> type[Network]:
    """The class of a network.

    Raises:
        ValueError: there is none of that name, or it is no such class.
    """
    if name not in NETWORKS:
        raise ValueError(
            f"`model.name` must be one of {', '.join(sorted(NETWORKS))}, but got {name!r}"
        )
    path = NETWORKS[name].path
    try:
        found = resolve_name(path)
    except Exception as error:
        raise _wrong(name, f"{type(error).__name__}: {error}") from error
    from models.network import Network

    if not (inspect.isclass(found) and issubclass(found, Network)):
        raise _wrong(name, repr(found))
    return found


def _wrong(name: str, got: str) -> ValueError:
    return ValueError(
        f"the network `{name}` must be a class of models.network.Network that can be imported, "
        f"with options that are plain values, but {NETWORKS[name].path} gives {got}"
    )


def options(name: str) -> dict[str, Any]:
    """The options of a network with their defaults, as its constructor has them.

    Raises:
        ValueError: there is none of that name, or it is no network as configs describe one.
    """
    parameters = inspect.signature(load(name)).parameters
    found = {key: p.default for key, p in parameters.items() if key not in _COMMON}
    for key, default in found.items():
        try:
            json.dumps(default)
        except TypeError as error:
            raise _wrong(name, f"{parameters[key]}") from error
    return found


def create(
    name: str, *, image_shape: tuple[int, int, int], latent_dim: int, **chosen: Any
) -> Network:
    """Build the network `name` for images of `image_shape` (C, H, W) and `latent_dim` units.

    Raises:
        ValueError: the name or an option is unknown, or the network cannot take such images.
    """
    known = options(name)
    for option in chosen:
        if option not in known:
            choices = ", ".join(known) or "none"
            raise ValueError(
                f"`model={name}` knows the options {choices}, but got `model.{option}`"
            )
    return load(name)(image_shape=image_shape, latent_dim=latent_dim, **chosen)


def complete(model: Mapping[str, Any], *, recorded: bool = False) -> dict[str, Any]:
    """The name and the options of a network, with those that records may lack.

    Args:
        model: as a config has them.
        recorded: in a record or a checkpoint. Where an older one lacks an option, its network did
            what there was before the choice.
    """
    name = str(model.get("name"))
    before = NETWORKS[name].before if name in NETWORKS else {}
    if not recorded and not before.keys() <= model.keys():
        before = {option: options(name)[option] for option in before}
    return {**before, **model}
