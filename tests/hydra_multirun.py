"""Hydra's loader and composed config, as its multirun hands them to a sweeper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def multirun_config(*overrides: str) -> tuple[Any, Any]:
    """The config loader and the config of `python run.py -m OVERRIDES`."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from sweeps.launch import register_config

    register_config()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("run", create_config_search_path(str(ROOT / "conf")))
        config = hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)
        return hydra.config_loader, config
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)
