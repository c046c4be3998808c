"""What several tests share: composed configs, tiny trials and the real photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

TINY = [
    "data.size=32",
    "data.count=120",
    "model.width=4",
    "latent_dim=4",
    "batch_size=16",
    "max_epochs=2",
    "logger=none",
    "trainer.progress=false",
    "evaluation.samples=64",
]
"""Overrides for a trial of a second or two."""

Compose = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's caches and W&B settings out of the tests, and the tests out of them."""
    shared = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VAESWEEP_CACHE", str(shared))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _hydra() -> Iterator[None]:
    from hydra import initialize_config_dir

    from experiments import config

    config.register()
    with initialize_config_dir(str(ROOT / "conf")):
        yield


@pytest.fixture
def compose(_hydra: None) -> Compose:
    """Compose the config as `run.py` does, from overrides, to plain values."""
    from hydra import compose as hydra_compose

    from experiments import config

    def composed(*overrides: str) -> dict[str, Any]:
        return config.plain(hydra_compose("config", list(overrides)))

    return composed


@pytest.fixture
def tiny(compose: Compose) -> Compose:
    """Like `compose`, for a trial of a second or two."""

    def composed(*overrides: str) -> dict[str, Any]:
        return compose(*TINY, *overrides)

    return composed


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with the real photos."""
    folder = os.environ.get("VAESWEEP_DATA")
    if not folder:
        pytest.skip("needs real photos: set VAESWEEP_DATA to a folder with cats_raw/")
    return Path(folder)
