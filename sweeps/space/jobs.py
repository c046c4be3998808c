"""The composed config of a sweep and of its jobs, as Hydra has it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any


def without_hydra(config: Any) -> Any:
    """A trial's config without Hydra's own node."""
    from omegaconf import OmegaConf

    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def hydra_overrides(config: Any) -> list[str]:
    """The overrides of Hydra's own keys as given: what only a job has stays unresolved."""
    from omegaconf import OmegaConf

    given = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(given, list)
    return list(map(str, given))


def times_resolved(text: str, config: Any) -> str:
    """A text with each `${now:...}` as the command has it, so that it means the same later."""
    from omegaconf import OmegaConf

    known = OmegaConf.get_cache(config).get("now", {})
    return re.sub(
        r"\$\{now:([^${}]*)\}",
        lambda found: str(known.get((found[1].strip().strip("'\""),), found[0])),
        text,
    )


def of_job(config: Any, number: int) -> Any:
    """A composed config as Hydra has it in a job: with its number, and what interpolations need."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import setup_globals
    from omegaconf import open_dict, read_write

    setup_globals()  # ${now:...} and ${hydra:...}, in the processes of workers too
    with open_dict(config):
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
    HydraConfig.instance().set_config(config)
    with read_write(config.hydra):
        # A path among the values makes no folders.
        name = str(config.hydra.job.override_dirname).replace("/", "_")
        config.hydra.job.override_dirname = escaped(name)
    return config


def set_directory(config: Any, directory: Path, subdir: str) -> None:
    """Let a composed config name the directories that were found, instead of how to find them."""
    from omegaconf import read_write

    with read_write(config.hydra):
        config.hydra.sweep.dir = escaped(str(directory))
        config.hydra.sweep.subdir = escaped(subdir)


def escaped(text: str) -> str:
    """A text in which OmegaConf finds no interpolation."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def settled(config: Any) -> None:
    """Resolve what changes with time once, in the command: Hydra copies it to the trials' configs.

    So `${now:...}` is the same for all trials and workers.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in config:
        with suppress(OmegaConfBaseException):  # what only a trial has
            if key != "hydra" and OmegaConf.is_config(value := config[key]):
                OmegaConf.to_container(value, resolve=True)
