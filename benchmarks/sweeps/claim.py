"""How long a worker holds the study's lock to claim a trial of a grid of 100,000 points.

    python -m benchmarks.sweeps.claim

On SQLite, beside Optuna's own ask and tell: for a grid that is gone through, and for a sampler
that draws points which nobody has had, in a study without trials and in one where 10,000 ended.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import machine, result
from benchmarks.studies import fill

POINTS = 100_000


def milliseconds(
    directory: Path, ended: int, *, grid: bool, rounds: int
) -> tuple[list[float], list[float]]:
    """Of each claim, and of Optuna's own of a point that it is given."""
    import optuna

    from benchmarks.sweeps.ask import plan_of
    from sweeps.space.grammar import parse
    from sweeps.space.grid import Grid
    from sweeps.storage import private
    from sweeps.storage.locks import is_certain
    from sweeps.storage.opening import lock, open_storage
    from sweeps.study.claims import Claims
    from sweeps.study.definition import open_study
    from sweeps.study.leases import Lease
    from sweeps.workers.worker import _join

    space = parse(["loss=a,b,c,d", "lr=range(0.001,0.251,0.001)", "latent_dim=range(0,100)"])
    url = f"sqlite:///{directory}/{ended}-{grid}.db"
    plan: Any = replace(plan_of(url, directory, "random"), space=space, grid=grid)
    storage = open_storage(url, directory / "study.db")
    study, _ = open_study(storage, plan.study, objectives=["psnr"], space=space, base={}, grid=grid)
    assert Grid(space).size == POINTS
    if ended:
        fill(study, ended, Grid(space))
    study = _join(plan)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lease = Lease(study, "bench-0", lambda: False)
    claims = Claims(
        study,
        plan,
        lambda: lock(plan.storage, plan.study, directory / "lock"),
        lease,
        is_lock_certain=is_certain(plan.storage),
    )
    ours, optunas = list[float](), list[float]()
    for turn in range(rounds + 1):
        began = time.perf_counter()
        claim = claims.next()
        ours.append(1000 * (time.perf_counter() - began))
        assert claim is not None
        study.tell(claim.trial, 18.0)
        began = time.perf_counter()
        study.enqueue_trial(Grid(space)[POINTS - 1 - turn][0])
        trial = study.ask()
        for dimension in space.dimensions:
            private.suggest(trial, dimension.key, dimension.distribution)
        optunas.append(1000 * (time.perf_counter() - began))
        study.tell(trial, 18.0)
    lease.end()
    return ours[1:], optunas[1:]  # the first reads the whole study


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    print(machine())
    for grid in (True, False):
        for ended in (0, 10_000):
            with tempfile.TemporaryDirectory() as folder:
                ours, optunas = milliseconds(Path(folder), ended, grid=grid, rounds=rounds)
            name = f"claim of a {'grid' if grid else 'drawn'} point, {ended} trials ended"
            mine, theirs = statistics.median(ours), statistics.median(optunas)
            beside = f"Optuna's enqueue, ask and suggest {theirs:.1f} ms"
            print(f"{name:<45} {mine:7.1f} ms ({beside})")
            result(name, mine, "<= 20", unit="ms", beside=beside)


if __name__ == "__main__":
    main()
