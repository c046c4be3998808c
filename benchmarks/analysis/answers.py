"""How often a comparison names a winner that is none, and how often it names one that is.

    python -m benchmarks.analysis.answers    # about 15 minutes; --sweeps 500 for a first look

Simulated sweeps, thousands of each kind, are given to `decisions.decide`, as the terminal, the
report and the service do. Deviations from seed to seed and their correlations are those of real
trainings (`trainings.csv` beside this file), or are said in the table. `--search` simulates whole
sweeps of the space of `sweep=full`, with the sweeper itself.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import machine
from decisions import decide, judged_by_other_seeds, looks

Array = NDArray[np.float64]
TRAININGS = Path(__file__).with_name("trainings.csv")
MOST_SEEDS = 20
MARGIN = 0.1
DEVIATION, CORRELATION = 0.1, 0.6
_TABLES = ["ties", "worse", "selections", "powers", "equalities"]


def trainings(metric: str = "psnr") -> tuple[list[str], Array]:
    """Losses, and what each reached with each seed, (K, S)."""
    with TRAININGS.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    losses = list(dict.fromkeys(row["loss"] for row in rows))
    seeds = sorted({int(row["seed"]) for row in rows})
    table = {(row["loss"], int(row["seed"])): float(row["value"]) for row in rows}
    return losses, np.array([[table[loss, seed] for seed in seeds] for loss in losses])


def drawn(
    random: np.random.Generator,
    leads: Array,
    deviations: Array,
    correlation: float = CORRELATION,
    seeds: int = MOST_SEEDS,
) -> Array:
    """Scores (K, S) of levels: a part of the deviation is one for all levels, seed by seed."""
    common = random.normal(size=seeds)
    own = random.normal(size=(len(leads), seeds))
    noise = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
    return 20 + leads[:, None] + deviations[:, None] * noise


def measured(random: np.random.Generator, leads: Array, covariance: Array) -> Array:
    """Scores with the covariance between levels of real trainings."""
    noise = random.multivariate_normal(np.zeros(len(leads)), covariance, size=MOST_SEEDS)
    return 20 + leads[:, None] + noise.T


def winner(scores: Array, planned: int | None) -> int | None:
    """Who is named the best."""
    decision = decide(scores, MARGIN, planned)
    return decision.leader if decision is not None and decision.is_best else None


def ever(scores: Array, planned: int | None, true: set[int]) -> bool:
    """Whether a wrong one is named at any look, as if nobody ever stopped looking."""
    named = (winner(scores[:, :n], planned) for n in looks(planned, scores.shape[1]))
    return any(one is not None and one not in true for one in named)


def rate(cell: Callable[[np.random.Generator], bool], sweeps: int, seed: int) -> float:
    """How often something happens."""
    random = np.random.default_rng(seed)
    return sum(cell(random) for _ in range(sweeps)) / sweeps


def ties(sweeps: int) -> Iterator[tuple[str, float]]:
    """False winners, looking after every seed, up to 20 seeds, whatever was planned."""
    for planned, count in itertools.product((3, 5, 8, None), (2, 4, 12)):
        for spread in (1.0, 10.0):
            deviations = DEVIATION * np.geomspace(1, spread, count)
            yield (
                f"{count} equal, planned {planned}, deviations 1 to {spread:g}",
                rate(
                    lambda r, d=deviations, p=planned: ever(drawn(r, 0 * d, d), p, set()),
                    sweeps,
                    seed=1,
                ),
            )
    for planned in (3, 5):
        leads = np.array([0.0, 0.0, -0.1, -1.0])
        deviations = np.full(4, DEVIATION)
        yield (
            f"2 equal above 2 others, planned {planned}",
            rate(
                lambda r, p=planned, le=leads, d=deviations: ever(drawn(r, le, d), p, set()),
                sweeps,
                seed=2,
            ),
        )
    _, scores = trainings()
    for planned in (3, 5, 8):
        yield (
            f"{len(scores)} equal, deviations and correlations measured, planned {planned}",
            rate(
                lambda r, p=planned: ever(
                    measured(r, np.zeros(len(scores)), np.cov(scores)), p, set()
                ),
                sweeps,
                seed=3,
            ),
        )


def worse(sweeps: int) -> Iterator[tuple[str, float]]:
    """How often one of equals is called surely worse, at the planned number of seeds."""
    for count, planned in itertools.product((2, 4, 8, 12), (3, 5, 8)):

        def called(random: np.random.Generator, k: int = count, n: int = planned) -> bool:
            decision = decide(drawn(random, np.zeros(k), np.full(k, DEVIATION), seeds=n), MARGIN, n)
            return decision is not None and any(rival.is_worse for rival in decision.rivals)

        yield f"{count} equal, {planned} seeds", rate(called, sweeps, seed=7)
    for low, planned in itertools.product((0.05, 0.1, 0.2, 1.0), (3, 5, 8)):
        leads = np.array([0.0] * 4 + [-low] * 4)

        def wrong(random: np.random.Generator, le: Array = leads, n: int = planned) -> bool:
            decision = decide(drawn(random, le, np.full(8, DEVIATION), seeds=n), MARGIN, n)
            return decision is not None and any(
                rival.is_worse and le[rival.level] >= le[decision.leader]
                for rival in decision.rivals
            )

        yield f"4 equal above 4 by {low:g} dB, {planned} seeds", rate(wrong, sweeps, seed=8)


def named_after_choosing(
    random: np.random.Generator, tries: tuple[int, ...], seeds: int, deviations: Array
) -> bool:
    """Whether one of equal levels is named, each with several configurations, equal as well."""
    common = random.normal(size=seeds)
    among = []
    for count, deviation in zip(tries, deviations, strict=True):
        own = random.normal(size=(count, seeds))
        noise = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own
        among.append(20 + deviation * noise)
    scores = np.array([judged_by_other_seeds(table, min(tries)) for table in among])
    decision = decide(scores, MARGIN, seeds, among=among)
    return decision is not None and decision.is_best


def selections(sweeps: int) -> Iterator[tuple[str, float]]:
    """False winners of grids, whose seeds choose the learning rate and judge it."""
    for seeds, tries in itertools.product((3, 5, 8), ((4, 4), (4, 8), (4, 4, 4, 4))):
        for spread in (1.0, 10.0):
            deviations = DEVIATION * np.geomspace(1, spread, len(tries))
            yield (
                f"{' and '.join(map(str, tries))} configurations, {seeds} seeds, "
                f"deviations 1 to {spread:g}",
                rate(
                    lambda r, t=tries, s=seeds, d=deviations: named_after_choosing(r, t, s, d),
                    sweeps,
                    seed=4,
                ),
            )


def powers(sweeps: int) -> Iterator[tuple[str, list[float]]]:
    """How often the one that leads is named, at the planned number of seeds."""
    for count, planned in itertools.product((2, 4, 12), (3, 5, 8)):
        found = []
        for lead in (0.1, 0.2, 0.5):
            leads = np.zeros(count)
            leads[0] = lead
            deviations = np.full(count, DEVIATION)
            found.append(
                rate(
                    lambda r, le=leads, d=deviations, p=planned: (
                        winner(drawn(r, le, d, seeds=p), p) == 0
                    ),
                    sweeps,
                    seed=5,
                )
            )
        yield f"{count} levels, {planned} seeds", found


def equalities(sweeps: int) -> Iterator[tuple[str, float]]:
    """How often two are called practically equal, with 5 seeds."""
    losses, scores = trainings()
    covariance = np.cov(scores)
    twins = [losses.index(name) for name in ("mse", "kornia_cauchy") if name in losses]
    pairs = {"all pairs of losses, measured": None, "mse and kornia_cauchy, measured": twins}
    for name, only in pairs.items():
        for lead in (0.0, MARGIN, 2 * MARGIN):

            def called(
                random: np.random.Generator, lead: float = lead, only: list[int] | None = only
            ) -> bool:
                pick = only or list(random.choice(len(losses), size=2, replace=False))
                both = random.multivariate_normal(
                    np.zeros(2), covariance[np.ix_(pick, pick)], size=5
                ).T + np.array([[lead], [0.0]])
                decision = decide(20 + both, MARGIN, 5)
                return decision is not None and bool(decision.equal)

            yield f"{name}, {lead:g} dB apart", rate(called, sweeps, seed=6)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=4000)
    parser.add_argument("--only", nargs="+", choices=_TABLES)
    arguments = parser.parse_args()
    wanted = arguments.only or _TABLES
    print(f"{arguments.sweeps} sweeps of each kind; {machine()}")
    tables = {"ties": ties, "worse": worse, "selections": selections, "equalities": equalities}
    for name in wanted:
        if name == "powers":
            print("\n| power at 0.1, 0.2 and 0.5 dB | | | |\n|---|---|---|---|")
            for row, found in powers(arguments.sweeps):
                print(f"| {row} | {' | '.join(f'{value:.2f}' for value in found)} |", flush=True)
            continue
        print(f"\n| {name} | share |\n|---|---|")
        for row, value in tables[name](arguments.sweeps):
            print(f"| {row} | {value:.4f} |", flush=True)


if __name__ == "__main__":
    main()
