"""What the losses of a sweep can pay for, said once while its workers begin."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from experiments import config as configs
from experiments.errors import UserError
from sweeps.plan import Plan
from sweeps.space.composing import some_values
from sweeps.space.dimensions import Space
from sweeps.space.jobs import without_hydra
from sweeps.workers.task import Task, TrainingTask

if TYPE_CHECKING:
    from experiments.preflight.forecasting import Forecast

log = logging.getLogger(__name__)

_MOST = 60  # combinations
_DECISIVE = ("loss", "beta", "latent_dim", "kl", "experiments")


@contextmanager
def forecast_shown(plan: Plan, task: Task, processes: Any) -> Iterator[None]:
    """Show what the losses can pay for, without keeping the workers waiting.

    In a process of its own, which with `processes` (of `sweeps.workers.launch.prepare_processes`)
    has its libraries already; in this one if the workers are. Nothing where the images may be
    elsewhere.
    """
    if not isinstance(task, TrainingTask) or not plan.on_one_machine:
        yield
        return
    if plan.workers == 0:
        _show(_forecasts(plan, task))
        yield
        return
    context = multiprocessing.get_context("spawn") if processes is None else processes
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(plan, task, sender), daemon=True)
    process.start()
    sender.close()
    thread = threading.Thread(target=_receive, args=(receiver,), name="forecast", daemon=True)
    thread.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
        thread.join()


def combinations(space: Space) -> Iterator[list[str]]:
    """Overrides of every combination of what decides what a loss can pay for.

    Of an interval both ends; the other dimensions have their first value.
    """
    chosen = [d for d in space.dimensions if d.key.lstrip("+").split(".")[0] in _DECISIVE]
    seen = set()
    for values in itertools.product(*map(some_values, chosen)):
        forced = {d.key: value for d, value in zip(chosen, values, strict=True)}
        filled = space.fill(lambda d, forced=forced: forced.get(d.key, some_values(d)[0]))  # type: ignore[misc]
        overrides = space.overrides(filled, space.seeds[0] if space.seeds else None)
        if tuple(overrides) not in seen:
            seen.add(tuple(overrides))
            yield overrides


def _forecasts(plan: Plan, task: TrainingTask) -> tuple[list[Forecast], str] | str:
    """The forecasts and their title; or why there are none."""
    from experiments.preflight.forecasting import forecasts

    wanted = [
        configs.plain(without_hydra(task.loader.load_sweep_config(task.config, overrides)))
        for overrides in itertools.islice(combinations(plan.space), _MOST)
    ]
    try:
        return forecasts(wanted)
    except UserError as error:
        return str(error)


def _show(forecast: tuple[Sequence[Forecast], str] | str) -> None:
    from experiments.preflight.telling import show

    if isinstance(forecast, str):
        log.warning("no forecast of what the losses can pay for: %s", forecast)
    else:
        show(*forecast)


def _receive(receiver: Connection) -> None:
    try:
        forecast = receiver.recv()
    except EOFError:  # the sweep was over first
        return
    _show(forecast)


def _main(plan: Plan, task: TrainingTask, sender: Connection) -> None:
    """Of the process."""
    from sweeps.workers.launch import register_config

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.setsid()  # interrupts from the terminal go to the command, which ends this
    os.chdir(plan.working_directory)
    register_config()
    import torch

    torch.set_num_threads(1)
    sender.send(_forecasts(plan, task))
