"""What distinguishes trials: the keys of their configs that vary, and a text of those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.identity import is_relevant

Config = Mapping[str, Any]
"""Flat, with hashable values."""

_GROUPS = ("loss", "model", "data")
_NOT_COMPARED = {"seed", "objective"}


def varying(configs: Sequence[Config]) -> list[str]:
    """The keys by which configs differ, in the order of the configs.

    Not the seed, not keys that cannot change a result, and not the options that come with a
    choice: where every `ssim` has the same `loss.sigma`, only `loss.name` varies.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if _is_compared(key) and _varies(key, configs)]


def descriptions(configs: Sequence[Config]) -> list[str]:
    """For each config a text that it shares with those that differ in nothing but the seed.

    It begins with the loss and says what else varies among these configs, as a command line
    would: `loss=ssim latent_dim=16 lr=0.0003`.
    """
    keys = list(dict.fromkeys(["loss.name", *varying(configs)]))
    writers = {key: _writer([c[key] for c in configs if key in c]) for key in keys}
    return [
        " ".join(f"{_typed(key)}={writers[key](c[key])}" for key in keys if key in c)
        for c in configs
    ]


def _is_compared(key: str) -> bool:
    return is_relevant(key) and key not in _NOT_COMPARED


def _varies(key: str, configs: Sequence[Config]) -> bool:
    values = {config[key] for config in configs if key in config}
    if len(values) < 2:
        return False
    group = key.partition(".")[0]
    choice = f"{group}.name"
    if group not in _GROUPS or key == choice:
        return True
    return len({(c.get(choice), c[key]) for c in configs if key in c}) > len(
        {c.get(choice) for c in configs if key in c}
    )


def _typed(key: str) -> str:
    """The key as people type it."""
    group, _, rest = key.partition(".")
    return group if rest == "name" else key


def _writer(values: Sequence[Any]) -> Callable[[Any], str]:
    """Writes values as short as keeps them apart."""
    floats = {value for value in values if isinstance(value, float)}
    for digits in range(3, 17):
        if len({f"{value:.{digits}g}" for value in floats}) == len(floats):
            return lambda value: _text(value, f".{digits}g")
    return lambda value: _text(value, "")


def _text(value: Any, form: str) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{','.join(_text(item, form) for item in value)}]"
    if isinstance(value, float):
        return format(value, form) if form else repr(value)
    return str(value)
