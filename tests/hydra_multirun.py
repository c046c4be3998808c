"""Hydra's loader and composed config, as its multirun hands them to a sweeper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@contextmanager
def hydra_afresh() -> Iterator[None]:
    """A context without the Hydra that is initialised, as a command finds it."""
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)


def multirun_config(*overrides: str) -> tuple[Any, Any]:
    """The config loader and the config of `python run.py -m OVERRIDES`."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode

    from sweeps.workers.launch import register_config

    register_config()
    with hydra_afresh():
        hydra = Hydra.create_main_hydra2("run", create_config_search_path(str(ROOT / "conf")))
        config = hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)
        return hydra.config_loader, config
