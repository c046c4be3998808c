"""What is tried before any trial begins, so that a mistake is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

from sweeps.composing import probes
from sweeps.plan import Plan
from sweeps.task import TrainingTask, WorkerSettings

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext


def try_data(plan: Plan, task: TrainingTask) -> None:
    """Load the images of a trial, which fills the cache that the workers share.

    Raises:
        UserError: they cannot be had or split.
    """
    values = next(probes(plan.space))
    seed = plan.space.seeds[0] if plan.space.seeds else None
    task.prepare(plan.space.overrides(values, seed), 0, WorkerSettings(0, plan.threads))


def try_parts(
    composed: Sequence[Mapping[str, Any]], processes: ForkServerContext | SpawnContext | None
) -> None:
    """Build every loss and network that is searched, for images of the size that goes with it.

    Args:
        composed: plain configs in which each value of the search occurs.
        processes: of `sweeps.launch.prepare_processes`, which have their libraries already; None
            to load them here.

    Raises:
        UserError: an option is wrong, or code is not trusted or cannot be imported.
    """
    wanted = _distinct(composed, "loss", "beta", "kl"), _distinct(composed, "model", "latent_dim")
    if processes is None:
        _build(*wanted)
        return
    with ProcessPoolExecutor(1, mp_context=processes) as pool:
        pool.submit(_build, *wanted).result()


def _distinct(composed: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """One config for each combination of some of its parts, and the shape of its images."""
    return list(
        {repr([_shape(config), *map(config.get, keys)]): config for config in composed}.values()
    )


def _shape(config: Mapping[str, Any]) -> tuple[int, int, int]:
    data = config["data"]
    return data["channels"], data["size"], data["size"]


def _build(losses: Iterable[Mapping[str, Any]], networks: Iterable[Mapping[str, Any]]) -> None:
    import torch

    from experiments.parts import build_loss, build_network

    for config in losses:
        build_loss(config, _shape(config))
    for config in networks:
        with torch.device("meta"):  # nothing is drawn or stored
            build_network(config, _shape(config))
