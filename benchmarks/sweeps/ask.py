"""How long a worker takes to claim a trial and to tell its value in a study of 10,000 trials.

    python -m benchmarks.sweeps.ask

Beside Optuna's own ask, suggest and tell on the same study, in turn, with SQLite and PostgreSQL
(see `benchmarks.postgresql`): for TPE as the only worker has it, TPE as one of several has
it, and random search. The finished trials have the attributes and reports of real ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import print_ratios
from benchmarks.postgresql import server
from benchmarks.studies import fill, space

SAMPLERS = {
    "TPE": ("TPESamplerConfig", 1),
    "TPE of several workers": ("TPESamplerConfig", 2),
    "random": ("RandomSamplerConfig", 1),
}
"""Configs of `hydra/sweeper/sampler`, and how many workers there are."""
OURS, OPTUNAS = "vaesweep: claim and tell", "Optuna: ask, suggest and tell"


def plan_of(url: str, directory: Path, sampler: str) -> Any:
    """What a worker would be told."""
    from dataclasses import asdict

    from hydra_plugins.hydra_optuna_sweeper import config

    from sweeps.plan import Plan
    from sweeps.settings import Settings

    name, workers = SAMPLERS[sampler]
    return Plan(
        settings=Settings(
            n_trials=1_000_000,
            study_name="large",
            sampler=asdict(getattr(config, name)(seed=0)),
        ),
        storage=url,
        directory=directory,
        session=sampler,
        space=space(),
        grid=False,
        objectives=("psnr",),
        pruner={"_target_": "optuna.pruners.NopPruner"},
        max_epochs=20,
        workers=workers,
        threads=None,
        on_one_machine=True,
        command={},
        working_directory=Path.cwd(),
    )


def milliseconds(url: str, directory: Path, sampler: str, rounds: int) -> dict[str, list[float]]:
    """Of each claim, or ask, together with its tell."""
    from sweeps.storage.opening import lock
    from sweeps.study.claims import Claims
    from sweeps.study.leases import Lease
    from sweeps.workers.worker import _join

    plan = plan_of(url, directory, sampler)
    study, bare = _join(plan), _join(plan)
    lease = Lease(study, "bench-0", lambda: False)
    claims = Claims(study, plan, lambda: lock(plan.storage, plan.study, directory / "lock"), lease)

    def ours() -> None:
        claim = claims.next()
        assert claim is not None
        study.tell(claim.trial, 18.0)

    def optunas() -> None:
        trial = bare.ask()
        for dimension in plan.space.dimensions:
            trial._suggest(dimension.key, dimension.distribution)
        bare.tell(trial, 18.0)

    ways: dict[str, Callable[[], None]] = {OPTUNAS: optunas, OURS: ours}
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, measure in ways.items():
            began = time.perf_counter()
            measure()
            if turn > 0:  # the first reads the whole study
                measured[name].append(1000 * (time.perf_counter() - began))
    lease.end()
    return measured


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = parser.parse_args()

    import optuna

    from sweeps.storage.opening import open_storage
    from sweeps.study.definition import open_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, server() as url:
        directory = Path(folder)
        urls = {"SQLite": f"sqlite:///{folder}/study.db", "PostgreSQL": url}
        for database, address in urls.items():
            if address is None:
                print(f"\nno {database} here: set VAESWEEP_POSTGRESQL to the URL of a database")
                continue
            storage = open_storage(address, directory / "study.db")
            study, _ = open_study(
                storage, "large", objectives=["psnr"], space=space(), base={}, grid=False
            )
            try:
                fill(study, arguments.trials)
                for sampler in SAMPLERS:
                    print_ratios(
                        f"{database}, {sampler}, {arguments.trials} finished trials",
                        milliseconds(address, directory, sampler, arguments.rounds),
                        OPTUNAS,
                        "ms",
                    )
            finally:
                optuna.delete_study(study_name="large", storage=storage)


if __name__ == "__main__":
    main()
