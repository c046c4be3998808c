"""What is tried before any trial begins, so that a mistake is told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from sweeps.plan import Plan
from sweeps.space.composing import probes
from sweeps.workers.task import TrainingTask, WorkerSettings

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

Shape = tuple[int, int, int]
"""Of images: channels, height, width."""


def try_data(plan: Plan, task: TrainingTask, composed: Sequence[Mapping[str, Any]]) -> None:
    """Load the images of a trial, which fills the cache that the workers share.

    Args:
        plan: of the sweep.
        task: makes its jobs.
        composed: plain configs in which each value of the search occurs.

    Raises:
        UserError: they cannot be had or split, or are fewer than a batch.
    """
    values = next(probes(plan.space))
    seed = plan.space.seeds[0] if plan.space.seeds else None
    task.prepare(plan.space.overrides(values, seed), 0, WorkerSettings(0, plan.threads))
    task.check_batches(composed)


def try_parts(
    composed: Sequence[Mapping[str, Any]], processes: ForkServerContext | SpawnContext | None
) -> None:
    """Build every loss and network that is searched, for images of a size that is searched.

    And try the metrics from outside.

    One that suits some of the sizes is no mistake: trials with the others fail.

    Args:
        composed: plain configs in which each value of the search occurs.
        processes: of `sweeps.workers.launch.prepare_processes`, which have their libraries
            already; None to load them here.

    Raises:
        UserError: an option is wrong, or code is not trusted or cannot be imported.
    """
    shapes = list(dict.fromkeys(map(_shape, composed)))
    wanted = _distinct(composed, "loss", "beta", "kl"), _distinct(composed, "model", "latent_dim")
    if processes is None:
        _build(*wanted, shapes)
        return
    try:
        with ProcessPoolExecutor(1, mp_context=processes) as pool:
            pool.submit(_build, *wanted, shapes).result()
    except BrokenProcessPool as error:
        raise UserError(
            "the losses and networks of a sweep must be built before its trials, but the process "
            "that builds them has ended; a script has to call sweeps.run below "
            "`if __name__ == '__main__':`, in a file, and code that it names must not end its "
            "process"
        ) from error


def _distinct(composed: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """One config for each combination of some of its parts."""
    return list({repr([config[key] for key in keys]): config for config in composed}.values())


def _shape(config: Mapping[str, Any]) -> Shape:
    data = config["data"]
    return data["channels"], data["size"], data["size"]


def _build(
    losses: Iterable[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    shapes: Sequence[Shape],
) -> None:
    import torch

    from experiments.building import build_loss, build_network, check_metrics

    for config in losses:
        _for_one_of(shapes, partial(build_loss, config))
    with torch.device("meta"):  # nothing is drawn or stored
        for config in networks:
            _for_one_of(shapes, partial(build_network, config))
    _for_one_of(shapes, partial(check_metrics, networks[0]))


def _for_one_of(shapes: Sequence[Shape], build: Callable[[Shape], object]) -> None:
    errors = []
    for shape in shapes:
        try:
            build(shape)
            return
        except UserError as error:
            errors.append(error)
    raise errors[0]
