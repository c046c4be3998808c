"""How fast a search finds a good model: policies against the recorded trainings.

    python -m benchmarks.search
    python -m benchmarks.search --trials 100 --workers 8 --seeds 20 --policies default before

Each search is replayed against `benchmarks/tabular/trainings.csv.xz` by the sweeper's own code and
a clock that only it moves; that stands still while a sampler computes (a Gaussian process takes
0.05 to 0.3 s a trial). A policy's time is that until it has a trial within 0.1 dB of the best that
Hydra's own sweeper finds with as many trials and workers, as a share of all that this takes; a
search that never gets there counts as 1.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.tabular.policies import DEFAULT, POLICIES, UNPRUNED
from benchmarks.tabular.replay import Trace, replay
from benchmarks.tabular.table import FILE, Task, equal_truth, tasks

NOISE = 0.1  # dB of PSNR, between two seeds
_RESAMPLES = 2000


def share_of_time(trace: Trace, stock: Trace) -> float:
    """Until as good as the stock sweeper's best but for `NOISE`, of all its time; 1 for never."""
    goal = stock.best - NOISE
    return min(1.0, trace.time_to(goal) / stock.seconds) if trace.best >= goal else 1.0


def interval(values: Sequence[float], statistic: Any = np.median) -> tuple[float, float]:
    """Of a statistic, at 95 %, by the bootstrap."""
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(statistic(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def searched(
    name: str,
    task: Task,
    policy: str,
    trials: int,
    workers: int,
    seed: int,
    past: Sequence[Trace] = (),
) -> tuple[str, str, Trace]:
    """One search, in a process of its own."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = POLICIES[policy]
    trace = replay(task, chosen, trials=trials, workers=workers, seed=seed, past=past)
    return name, policy, trace


def regret(task: Task, trace: Trace, seed: int) -> float:
    """How far the best of a loss is from the best of the grid, in dB; the mean of the losses.

    Args:
        task: that was searched.
        trace: of the search.
        seed: of the search.
    """
    own = task.curves["psnr"][..., seed % len(task.seeds), :]
    tops = np.nanmax(own, axis=(1, 2, 3, 4))
    found = []
    for loss, top in zip(task.losses, tops, strict=True):
        best = [value for _, value, values in trace.found if values["loss"] == loss]
        found.append(top - max(best, default=np.nanmin(task.curves["psnr"])))
    return float(np.mean(found))


def compared(
    known: Mapping[str, Task], policies: Sequence[str], trials: int, workers: int, seeds: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and policy: what the table shows."""
    wanted = dict.fromkeys(["stock", UNPRUNED, *policies])
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = [
            pool.submit(searched, name, task, policy, trials, workers, seed)
            for name, task in known.items()
            for policy in wanted
            for seed in range(seeds)
        ]
        traces: dict[tuple[str, str], list[Trace]] = {}
        for future in futures:
            name, policy, trace = future.result()
            traces.setdefault((name, policy), []).append(trace)
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for name, task in known.items():
        stock, unpruned = traces[name, "stock"], traces[name, UNPRUNED]
        for policy in wanted:
            own = traces[name, policy]
            shares = [share_of_time(a, b) for a, b in zip(own, stock, strict=True)]
            rows.setdefault(name, {})[policy] = {
                "share": float(np.median(shares)),
                "interval": interval(shares),
                "never": float(
                    np.mean([a.best < b.best - NOISE for a, b in zip(own, stock, strict=True)])
                ),
                "whole": float(
                    np.mean([a.seconds / b.seconds for a, b in zip(own, stock, strict=True)])
                ),
                "best": float(
                    np.mean([a.best - b.best for a, b in zip(own, unpruned, strict=True)])
                ),
                "regret": float(np.mean([regret(task, a, seed) for seed, a in enumerate(own)])),
            }
    return rows


def wins(task: Task, policy: str, trials: int, workers: int, seeds: int) -> dict[str, float]:
    """How often each of several equal levels has the best trial."""
    equals = [equal_truth(task, seed) for seed in range(seeds)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = [
            pool.submit(searched, task.name, equal, policy, trials, workers, seed)
            for seed, equal in enumerate(equals)
        ]
        found = [future.result()[2] for future in futures]
    best = [max(trace.found, key=lambda one: one[1])[2]["loss"] for trace in found]
    return {loss: best.count(loss) / seeds for loss in equals[0].losses}


def remembered(
    known: Mapping[str, Task], trials: int, workers: int, seeds: int
) -> dict[str, dict[str, list[float]]]:
    """The share of the stock sweeper's time of each search, by task and what it begins with.

    That is nothing, the end of a search on another task, or its opposite, which misleads: the
    other search's values in reverse, so that the worst comes first.
    """
    ways: dict[str, dict[str, list[float]]] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:

        def traces(task: Task, policy: str, past: Sequence[Sequence[Trace]]) -> list[Trace]:
            run = partial(searched, task.name, task, policy, trials, workers)
            return [trace for *_, trace in pool.map(run, range(seeds), past)]

        nothing: list[list[Trace]] = [[]] * seeds
        ends = {name: traces(task, UNPRUNED, nothing) for name, task in known.items()}
        for name, task in known.items():
            stock = traces(task, "stock", nothing)
            pasts = {"nothing": nothing}
            for other in known.keys() - {name}:
                pasts[other] = [[trace] for trace in ends[other]]
                pasts[f"{other}, misled"] = [[_reversed(trace)] for trace in ends[other]]
            ways[name] = {
                way: [
                    share_of_time(a, b)
                    for a, b in zip(traces(task, DEFAULT, past), stock, strict=True)
                ]
                for way, past in pasts.items()
            }
    return ways


def _reversed(trace: Trace) -> Trace:
    return replace(trace, found=[(when, -value, values) for when, value, values in trace.found])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", help="of the table; all where none is named")
    parser.add_argument("--policies", nargs="+", default=[], help="parts of their names")
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--table", type=Path, default=FILE)
    parser.add_argument("--equal", action="store_true", help="of levels that are equally good")
    parser.add_argument(
        "--past", action="store_true", help="begun where a search on another task ended"
    )
    parser.add_argument("--json", type=Path, help="where the numbers go")
    asked = parser.parse_args()
    known = {n: t for n, t in tasks(asked.table).items() if not asked.tasks or n in asked.tasks}
    chosen = [
        policy
        for policy in POLICIES
        if not asked.policies
        or policy in asked.policies
        or any(part in policy for part in asked.policies if part not in POLICIES)
    ]
    everything = {}
    for trials in asked.trials:
        for workers in asked.workers:
            began = time.monotonic()
            if asked.equal:
                for name, task in known.items():
                    for policy in chosen:
                        shares = wins(task, policy, trials, workers, asked.seeds)
                        shown = ", ".join(f"{share:.3f}" for share in shares.values())
                        print(f"{name}, {policy}: wins {shown}", flush=True)
                continue
            if asked.past:
                for name, ways in remembered(known, trials, workers, asked.seeds).items():
                    for way, values in sorted(ways.items()):
                        low, high = interval(values)
                        shown = f"{np.median(values):.3f} ({low:.3f} to {high:.3f})"
                        print(f"{name}, begun with {way}: {shown}", flush=True)
                continue
            rows = compared(known, chosen, trials, workers, asked.seeds)
            everything[f"{trials} trials, {workers} workers"] = rows
            _print(rows, f"{trials} trials, {workers} workers, {asked.seeds} seeds")
            print(f"{time.monotonic() - began:.0f} s\n")
    if asked.json:
        asked.json.write_text(json.dumps(everything, indent=1))


def _print(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> None:
    print(title)
    policies = list(next(iter(rows.values())))
    for policy in policies:
        shares = [own[policy]["share"] for own in rows.values()]
        print(f"{policy:42s} {np.exp(np.mean(np.log(shares))):.3f}", end="")
        for own in (each[policy] for each in rows.values()):
            low, high = own["interval"]
            print(
                f" | {own['share']:.3f} ({low:.3f} to {high:.3f}), never {own['never']:.2f}, whole "
                f"{own['whole']:.2f}, best {own['best']:+.3f}, regret {own['regret']:.3f}",
                end="",
            )
        print()


if __name__ == "__main__":
    main()
