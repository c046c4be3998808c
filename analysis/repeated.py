"""What of a sweep's overrides may be repeated in a command for people to run.

The sweep may be somebody else's, and what is typed is the user's word: so only what a trial is and
how it is searched, and none of what says where files and metrics go or what a launcher runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from experiments.config.decided import BY_THE_RECORD

_GROUPS = {"data", "model", "loss", "logger", "experiments", "sweep"}
_SEARCH = {
    "hydra/sweeper/sampler", "hydra/sweeper/pruner", "hydra/launcher", "hydra.sweeper.n_trials",
    "hydra.sweeper.timeout", "hydra.sweeper.study_name", "hydra.verbose", "report",
}  # fmt: skip
_OF_SECTIONS = ("model.", "loss.", "trainer.", "sweep.")
_OF_SEARCH = ("hydra.sweeper.sampler.", "hydra.sweeper.pruner.", "hydra.sweeper.conditions.")
_NUMBERED = ("hydra.launcher.", "hydra.sweeper.n_jobs")
_PARAMS = "hydra.sweeper.params."
_WITHIN = {*_GROUPS, "kl", "optimizer", "trainer", "evaluation", "hydra"}
_OVERRIDE = re.compile(r"\+{0,2}([\w./-]+)=(.*)")
_NUMBER = re.compile(r"null|true|false|\d{1,5}")
_MOST_WORKERS = 256


def split(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """The overrides that can do no harm, and the keys of the others."""
    kept, left_out = [], []
    for text in overrides:
        if is_harmless(text):
            kept.append(text)
        else:
            left_out.append(text.partition("=")[0].lstrip("+~"))
    return kept, [key for key in left_out if key.isprintable()]


def is_harmless(override: str) -> bool:
    """Whether an override only says what a trial is, or how it is searched."""
    found = _OVERRIDE.fullmatch(override)
    if found is None or not override.isprintable():
        return False
    key, value = found.groups()
    if "${" in value or "_target_" in override:
        return False
    if key.startswith(_NUMBERED):
        return bool(_NUMBER.fullmatch(value)) and (
            key != _NUMBERED[1] or not value.isdecimal() or int(value) <= _MOST_WORKERS
        )
    if key in _WITHIN:  # a mapping would set any key below
        return key in _GROUPS and "{" not in value
    if key.startswith(_PARAMS):
        return is_harmless(f"{key.removeprefix(_PARAMS)}={value}")
    return key in BY_THE_RECORD | _SEARCH or key.startswith((*_OF_SECTIONS, *_OF_SEARCH))
