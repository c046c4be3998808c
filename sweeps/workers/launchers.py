"""What Hydra's launchers are told, so that workers live in them as in processes of ours.

A launcher's settings are meant for jobs of one trial; a worker lives as long as the sweep. What
the user sets stays as it is.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from sweeps.plan import Plan
from sweeps.space.jobs import hydra_overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

_A_YEAR = 60 * 24 * 365  # minutes
_OBJECT_STORE = 100_000_000  # bytes; a worker takes and gives next to nothing
_RAY_STARTS = 3


def launcher_name(config: DictConfig) -> str:
    """The class of Hydra's launcher."""
    return str(config.hydra.launcher._target_).rpartition(".")[2]


def is_on_this_machine(config: DictConfig) -> bool:
    """Whether all workers share the cores and GPUs of the command's machine."""
    name = launcher_name(config)
    if name != "RayLauncher":
        return name in ("BasicLauncher", "JoblibLauncher", "LocalLauncher")
    # Ray divides the resources itself on a cluster, and GPUs where they are asked for.
    ray = config.hydra.launcher.ray
    return _ray_is_local(ray) and not ray.remote.get("num_gpus")


def check(config: DictConfig) -> None:
    """Refuse settings of a launcher with which a sweep could not end.

    Raises:
        UserError: there is one.
    """
    launcher = config.hydra.launcher
    if launcher_name(config) == "JoblibLauncher" and launcher.backend not in (None, "loky"):
        raise UserError(
            f"`hydra.launcher.backend` must be loky, but got {launcher.backend!r}, which waits "
            "for ever when a worker is killed"
        )


def configured(config: DictConfig, plan: Plan) -> DictConfig:
    """A copy of the config with settings of its launcher that suit workers."""
    from omegaconf import open_dict, read_write

    config = config.copy()
    launcher, name = config.hydra.launcher, launcher_name(config)
    gpus = plan.settings.gpus_per_trial

    def default(key: str, usual: Any, ours: Any) -> None:
        named = (text.lstrip("+") for text in hydra_overrides(config))
        if launcher[key] == usual and not any(
            text.startswith(f"hydra.launcher.{key}=") for text in named
        ):
            launcher[key] = ours

    with read_write(config.hydra):
        if name == "JoblibLauncher":
            # A single one would run within this process and take over its signals.
            launcher.n_jobs = max(2, plan.workers)
        elif name == "LocalLauncher":
            default("timeout_min", 60, _A_YEAR)
            default("gpus_per_node", None, _gpus())  # it hides the others
        elif name == "SlurmLauncher":
            default("array_parallelism", 256, plan.workers)
            launcher.name = f"{launcher.name}-{plan.session}"  # by which jobs are cancelled
            if gpus > 1 and not (launcher.gpus_per_task or launcher.gres):
                default("gpus_per_node", None, gpus)
        elif name == "RayLauncher" and gpus > 1 and not plan.on_one_machine:
            with open_dict(launcher.ray.remote):
                launcher.ray.remote.setdefault("num_gpus", gpus)
    return config


def hosting(config: DictConfig, plan: Plan) -> AbstractContextManager[None]:
    """A context around the launch: what the launcher needs is there, and is gone afterwards.

    Raises:
        UserError: Ray does not start.
    """
    hosts: dict[str, Callable[[DictConfig, Plan], AbstractContextManager[None]]] = {
        "JoblibLauncher": _loky,
        "RayLauncher": _ray,
        "SlurmLauncher": _slurm,
    }
    host = hosts.get(launcher_name(config))
    return host(config, plan) if host is not None else nullcontext()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that this thread starts in this context do not hear the terminal's interrupts.

    Those go to the command, which tells its workers; it hears them by its other threads.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _loky(config: DictConfig, plan: Plan) -> Iterator[None]:
    """Without the processes that joblib keeps for the next time."""
    from joblib.externals.loky import get_reusable_executor

    try:
        yield
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


@contextmanager
def _ray(config: DictConfig, plan: Plan) -> Iterator[None]:
    """With Ray started, as quietly as it can be, unless it runs already."""
    import ray
    from omegaconf import OmegaConf

    if ray.is_initialized():
        yield
        return
    settings = config.hydra.launcher.ray
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if _ray_is_local(settings):
        options |= {
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
            # As many workers at once as were asked for, whatever the number of cores.
            "num_cpus": max(1, plan.workers) * (settings.remote.get("num_cpus") or 1),
        }
        # It warns that its cluster is protected.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Workers divide the GPUs by themselves.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    given: Any = OmegaConf.to_container(settings.init, resolve=True)
    options |= {key: value for key, value in given.items() if value is not None}
    before = signal.getsignal(signal.SIGTERM)
    try:
        _start_ray(options)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has its own
    try:
        yield
    finally:
        ray.shutdown()


def _start_ray(options: dict[str, Any]) -> None:
    """Ray gives its processes half a minute, which a busy machine may need for loading them."""
    import ray

    for left in reversed(range(_RAY_STARTS)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()
            if not left or "timed out" not in str(error):
                raise UserError(f"Ray does not start: {type(error).__name__}: {error}") from error


@contextmanager
def _slurm(config: DictConfig, plan: Plan) -> Iterator[None]:
    """Without jobs that nobody waits for."""
    try:
        yield
    except KeyboardInterrupt:
        cancel = shutil.which("scancel")
        if cancel is not None:
            subprocess.run([cancel, f"--name={config.hydra.launcher.name}"], check=False)
        raise


def _ray_is_local(settings: DictConfig) -> bool:
    address = settings.init.get("address") or os.environ.get("RAY_ADDRESS") or "local"
    return str(address) == "local"


def _gpus() -> int | None:
    import torch

    return torch.cuda.device_count() or None
