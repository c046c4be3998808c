"""What several tests share: composed configs, tiny trials and the real photos."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import training
from tests.alive import ALIVE, assert_alive
from tests.browsers import run_browser
from tests.coverage_files import discard_broken
from tests.servers import PostgreSQL, Proxy, fresh_name, run_postgresql, run_proxy
from tests.waiting import PATIENCE
from tests.wandb_server import WandbServer, run_wandb_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]

PACKAGES = {"experiments", "losses", "models", "sweeps", "analysis", "serving"}

# As `make test` has it. A number that is given is kept: what tests compare bit for bit must not
# depend on what else the machine does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Before pytest-cov, whose own wrapper is around this one, combines what it finds."""
    outcome = yield
    if not hasattr(session.config, "workerinput"):  # of pytest-xdist, while others still write
        discard_broken(ROOT)
    return outcome


def pytest_configure() -> None:
    training.choose_precision()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    training.mark(items)


@pytest.fixture(autouse=True)
def _marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    training.refuse_unmarked(request.node, monkeypatch)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws does not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's caches and W&B settings out of the tests, and the tests out of them."""
    shared = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("VAESWEEP_CACHE", str(shared))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a command has changed in this process ends with its test: files, filters, levels."""
    root = logging.getLogger()
    filters, levels = {handler: list(handler.filters) for handler in root.handlers}, _levels()
    disabled, raises = root.manager.disable, logging.raiseExceptions
    factory = logging.getLogRecordFactory()
    yield
    for handler in list(root.handlers):
        if handler in filters:
            handler.filters[:] = filters[handler]
        elif type(handler) is logging.FileHandler:
            root.removeHandler(handler)
            handler.close()
    logging.disable(disabled)
    logging.raiseExceptions = raises
    logging.setLogRecordFactory(factory)
    for name, now in _levels().items():
        if now != (before := levels.get(name, (logging.NOTSET, False))):
            logger = logging.getLogger(name)
            logger.setLevel(before[0])
            logger.disabled = before[1]


def _levels() -> dict[str | None, tuple[int, bool]]:
    """Of the root's logger and ours: their levels, and whether they are disabled."""
    known = logging.root.manager.loggerDict
    ours = [name for name in known if name.partition(".")[0] in PACKAGES]
    loggers = {name: logging.getLogger(name) for name in (None, *ours)}
    return {name: (logger.level, logger.disabled) for name, logger in loggers.items()}


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT interrupts, which what a shell starts in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
def tiny_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a real sweep, `outputs/tiny/sweep`, that tests share and do not change.

    Trials 0 to 3 are two losses with two seeds each, all alive, 4 failed and 5 was pruned.
    """
    from optuna.pruners import MedianPruner

    import sweeps

    folder = tmp_path_factory.mktemp("tiny")
    settings = ["name=tiny", *TINY, *ALIVE]
    settings += ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=4"]
    settings += ["hydra.sweeper.n_jobs=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAESWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.chdir(folder)
        # Which trial is worse than others depends on the processor, so that is not left to chance.
        patch.setattr(MedianPruner, "prune", lambda self, study, trial: trial.number == 5)
        sweeps.run([*settings, "loss=mse,ssim", "lr=choice(5e-3)", "seed=0,1"])
        sweeps.run([*settings, "loss=choice(mse)", "lr=1e30,1e-9", "seed=1"])
    for number in range(4):
        assert_alive(folder / "outputs/tiny/sweep" / str(number))
    return folder / "outputs/tiny/sweep"


@pytest.fixture(scope="session")
def trained(_hydra: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a completed tiny trial, alive; tests that change it take a copy."""
    from hydra import compose as hydra_compose

    from experiments import config
    from experiments.trial import run_trial

    cache = tmp_path_factory.mktemp("trained-cache")
    plain = config.plain(hydra_compose("config", [*TINY, *ALIVE, f"data.cache_dir={cache}"]))
    record = run_trial(plain, tmp_path_factory.mktemp("trained") / "trial", in_sweep=True).directory
    assert_alive(record)
    return record


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with the real photos."""
    folder = os.environ.get("VAESWEEP_DATA")
    if not folder:
        pytest.skip("needs real photos: set VAESWEEP_DATA to a folder with cats_raw/")
    return Path(folder)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server; tests that stop it have to start it again."""
    with run_postgresql() as server:
        yield server


@pytest.fixture
def database(postgresql: PostgreSQL) -> str:
    """The URL of a fresh, empty PostgreSQL database."""
    return postgresql.create(fresh_name())


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Optuna's gRPC proxy server; tests that stop it have to start it again."""
    with run_proxy(tmp_path_factory.mktemp("proxy")) as server:
        yield server


@pytest.fixture(scope="module")  # its event loop is in the way of tests that have their own
def browser() -> Iterator[Browser]:
    """A headless Chromium; see `tests.browsers.visit` for a window of it."""
    with run_browser() as chromium:
        yield chromium


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """The URL of a journal file that does not exist yet."""
    return f"journal://{tmp_path / 'sweep.log'}"


def isolated_wandb(home: Path) -> dict[str, str]:
    """An environment in which the W&B client finds nothing of the user's: for subprocesses."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith("WANDB_") or name.lower().endswith("_proxy") or name == "NETRC")
    }
    return kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and an environment for the W&B client in this process, and its end."""
    from experiments.tracking.wandb import client as wandb_client
    from experiments.tracking.wandb import run as wandb_run

    home = tmp_path / "home"
    home.mkdir()
    environment = isolated_wandb(home)
    for name in os.environ.keys() - environment:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setattr(wandb_run, "_last_failure", None)
    # On a busy machine even a server on loopback may take more than the usual second.
    monkeypatch.setattr(wandb_run.choose_mode, "__defaults__", (os.environ, float(PATIENCE)))
    yield home
    wandb_client.end_client()
    os.environ.pop("WANDB_SERVICE", None)  # the client's own


@pytest.fixture
def wandb_server(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A stand-in for the W&B server that the client in this process would use."""
    with run_wandb_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
