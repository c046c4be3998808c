"""What makes two trials the same trial: everything that can change their result, nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_IRRELEVANT = ("name", "logger", "sweep", "experiments", "report")
_IRRELEVANT_IN = {
    "trainer": (
        "device", "devices", "nodes", "strategy", "threads", "cuda_graph", "profiler", "progress",
    ),
    # Where the images lie and where they are cached; what they are is in their fingerprint.
    "data": ("root", "cache_dir"),
}  # fmt: skip


def relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plain config that can change a trial's result."""
    kept = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    for section, keys in _IRRELEVANT_IN.items():
        if isinstance(kept.get(section), Mapping):
            kept[section] = {k: v for k, v in kept[section].items() if k not in keys}
    return kept


def is_relevant(key: str) -> bool:
    """Whether a key of the flat config, such as `trainer.precision`, is part of `relevant`."""
    section, _, rest = key.partition(".")
    return section not in _IRRELEVANT and rest not in _IRRELEVANT_IN.get(section, ())


def identity(config: Mapping[str, Any], fingerprint: str) -> str:
    """A hash of a trial's plain config, with its seed, and of its data's fingerprint."""
    text = json.dumps([relevant(config), fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
