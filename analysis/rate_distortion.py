"""Losses compared at the same rate: curves of a metric against the KL, in nats per image.

A loss that reconstructs better may only pay more KL for it, and `beta` buys KL from any loss. At
the same KL what is left is what a loss does with its nats: a loss and the same loss times 100 lie
on one curve, at other values of `beta` (Alemi et al. 2018, "Fixing a broken ELBO").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

import decisions
from analysis import commands, labels
from analysis.comparison import Comparison, compare
from analysis.comparison.alike import LEVEL, comparable, design_of
from analysis.comparison.found import student
from analysis.comparison.results import finding
from analysis.runs import Runs
from decisions import Array, Measure
from experiments import metrics as known_metrics
from experiments.cli.commands import module

BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the command that is given where there are too few, for a level of usual KL."""

_MISSING = "to compare losses at the same KL, trials at several values of beta are missing"
_GRID = 65  # KLs at which curves are compared
_MOST = math.log(1e4)  # of that factor
_NEAR = 2.0  # the factor of beta from which a level gets values of its own
_POINTS = ("group", "trial", "seed", "beta", "kl", "value")
_BANDS = ("group", "kl", "mean", "low", "high", "seeds")
_PAIRS = ("a", "b", "kl_low", "kl_high", "difference", "low", "high", "margin", "finding")

Curve = tuple[Array, Array]
"""KLs of one seed, increasing, and the metric at each."""
Curves = Mapping[str, Mapping[Any, Curve]]
"""By group and seed."""


@dataclass(frozen=True)
class RateDistortion:
    """What each loss makes of its nats.

    Attributes:
        metric: on the curves.
        split: of the images, "test" or "val".
        points: a row a trial: `group`, `trial`, `seed`, `beta`, `kl` and the metric's `value`.
        bands: a row a group and KL: the `mean` over seeds of their curves, with Student's interval
            `low` to `high`, NaN with one seed; over the KLs that all seeds of the group reach.
        pairs: a row a pair of groups: how much better `a` is, the `difference` averaged over the
            KLs `kl_low` to `kl_high` that all seeds of both reach, seed by seed where they share
            any, with its interval; the `margin` within which they are practically equal; and the
            `finding`: "better", "worse", "equal" or "open".
        notes: what a reader has to know.
        verdict: the answer, in sentences.
        command: what trains the missing values of `beta`, a line for each command, where no two
            groups have a curve.
    """

    metric: str
    split: str
    points: pd.DataFrame
    bands: pd.DataFrame
    pairs: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)
    command: str | None = None


def rate_distortion(
    runs: Runs,
    *,
    metric: str = "psnr",
    by: Sequence[str] = ("loss.name",),
    margins: Mapping[str, float] | None = None,
) -> RateDistortion:
    """Compare groups of trials at the same KL.

    Of each group those trials are taken that differ in nothing but `beta` and the seed, at the
    most values of `beta` (and of those, the best on validation images). Each seed is a curve,
    interpolated without overshoot; a difference of two is averaged over the KLs that both groups
    reach, and decided by `decisions.pair`.

    Args:
        runs: the trials, of which the test split counts if all have it, else the validation split.
        metric: on the curves.
        by: columns of `runs.trials` that make a group.
        margins: by metric, below which a difference does not matter.

    Returns:
        Tables and sentences; where there are too few values of `beta`, the command that adds some.

    Raises:
        UserError: there is no such column.
        ValueError: the metric is unknown.
    """
    labels.better(metric)
    compared = compare(runs, by=by, metrics=("kl", "active_units"))
    runs, left_out, _ = comparable(runs, by)
    completed = runs.trials[runs.trials["status"] == "completed"]
    split, measured = _measured(completed, metric)
    found = [
        _family(rows, runs, by).assign(group=group)
        for group, rows in measured.groupby(LEVEL, sort=False)
    ]
    points = pd.concat(found)[list(_POINTS)] if found else pd.DataFrame(columns=list(_POINTS))
    every = {str(group): _curves(rows) for group, rows in points.groupby("group", sort=False)}
    curves = {group: of_seeds for group, of_seeds in every.items() if of_seeds}
    design = design_of(runs)
    planned = design.planned if design is not None else None
    pairs = _pairs(curves, metric, planned, margins)
    without = [level.name for level in compared.levels if level.name not in curves]
    notes = list(left_out)
    notes += [f"{group} has too few values of beta for a curve" for group in without if curves]
    if split == "val" and curves:
        notes.append("of the validation images, by which checkpoints were chosen")
    command = None
    if len(curves) < 2:
        command = _missing(runs, compared)
        verdict = [f"{_MISSING}; add some: {'; '.join(command.splitlines())}"]
    else:
        verdict = _sentences(pairs, metric)
    return RateDistortion(
        metric=metric,
        split=split,
        points=points.reset_index(drop=True),
        bands=_bands(curves),
        pairs=pairs,
        notes=notes,
        verdict=verdict,
        command=command,
    )


def curve(kl: Sequence[float] | Array, value: Sequence[float] | Array) -> Curve | None:
    """The points of one seed by increasing KL, those of the same KL averaged.

    None with fewer than two.
    """
    points = pd.DataFrame({"kl": kl, "value": value}, dtype=np.float64)
    points = points[np.isfinite(points).all(axis=1)].round({"kl": 3})  # all below are collapsed
    means = points.groupby("kl")["value"].mean()
    return (means.index.to_numpy(), means.to_numpy()) if len(means) > 1 else None


def common_range(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The KLs that all curves reach; None if there are none."""
    low = max(float(kl[0]) for kl, _ in curves)
    high = min(float(kl[-1]) for kl, _ in curves)
    return (low, high) if low < high else None


def interpolated(curves: Sequence[Curve], kl: Array) -> Array:
    """The metric on each curve at the KLs, (S, K), monotone between points.

    Fritsch and Butland 1984, "A method for constructing local monotone piecewise cubic
    interpolants".
    """
    from scipy.interpolate import PchipInterpolator

    return np.stack([PchipInterpolator(*points)(kl) for points in curves])


def _measured(trials: pd.DataFrame, metric: str) -> tuple[str, pd.DataFrame]:
    """The split, and the trials with their `kl` and `value` on it."""
    tested = [f"test/{metric}", "test/kl"]
    has_tests = set(tested) <= set(trials.columns) and trials[tested].notna().all(axis=None)
    split = "test" if has_tests and len(trials) else "val"
    columns = {"value": f"{split}/{metric}", "kl": f"{split}/kl"}
    return split, trials.assign(
        **{name: trials.get(column, np.nan) for name, column in columns.items()}
    )


def _family(rows: pd.DataFrame, runs: Runs, by: Sequence[str]) -> pd.DataFrame:
    """Those that differ in `beta` and seed alone, at the most values of `beta`."""
    if "beta" not in rows.columns:
        return rows.assign(beta=np.nan)
    fixed = [c for c in runs.searched if c in rows.columns and c not in (*by, "beta")]
    if not fixed:
        return rows
    column, sign = f"val/{runs.objective}", labels.sign(runs.objective)

    def merit(family: pd.DataFrame) -> tuple[int, float]:
        best = (sign * family[column]).max() if column in family.columns else 0.0
        return family["beta"].nunique(), float(best)

    families = [family for _, family in rows.groupby(fixed, sort=False, dropna=False)]
    return max(families, key=merit)


def _curves(points: pd.DataFrame) -> dict[Any, Curve]:
    found = {
        seed: curve(rows["kl"].to_numpy(), rows["value"].to_numpy())
        for seed, rows in points.groupby("seed", sort=False, dropna=False)
    }
    return {seed: one for seed, one in found.items() if one is not None}


def _bands(curves: Curves) -> pd.DataFrame:
    rows = []
    for group, of_seeds in curves.items():
        reached = common_range(list(of_seeds.values()))
        if reached is None:
            continue
        kls = np.linspace(*reached, _GRID)
        for kl, values in zip(kls, interpolated(list(of_seeds.values()), kls).T, strict=True):
            mean, half = values.mean(), student(values)
            rows.append((group, float(kl), mean, mean - half, mean + half, len(of_seeds)))
    return pd.DataFrame(rows, columns=list(_BANDS))


def _pairs(
    curves: Curves, metric: str, planned: int | None, margins: Mapping[str, float] | None
) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    alpha = decisions.ALPHA / max(1, len(curves) - 1)
    for a, b in combinations(curves, 2):
        row: dict[str, Any] = {"a": a, "b": b, "finding": "open"}
        reached = common_range([*curves[a].values(), *curves[b].values()])
        if reached is not None:
            kls = np.linspace(*reached, _GRID)
            seeds = list(dict.fromkeys([*curves[a], *curves[b]]))
            of_a, of_b = (_gains(curves[c], seeds, kls, labels.sign(metric)) for c in (a, b))
            found = decisions.pair(of_a, of_b, planned, alpha, equal_alpha=decisions.ALPHA)
            best = max(float(np.nanmean(of_a)), float(np.nanmean(of_b)))
            margin = known_metrics.margin(metric, best, margins)
            row |= {"kl_low": reached[0], "kl_high": reached[1], "difference": found.difference}
            row |= {"low": found.low, "high": found.high, "finding": finding(found, margin)}
            row["margin"] = margin
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(_PAIRS))
    return table.astype(dict.fromkeys(_PAIRS[2:-1], float))


def _gains(of_seeds: Mapping[Any, Curve], seeds: Sequence[Any], kls: Array, sign: int) -> Array:
    """The average of each seed's curve over equidistant KLs, by trapezoids; more is better."""
    averages = {
        seed: sign * np.trapezoid(interpolated([one], kls)[0]) / (len(kls) - 1)
        for seed, one in of_seeds.items()
    }
    return np.array([averages.get(seed, np.nan) for seed in seeds])


def _sentences(pairs: pd.DataFrame, metric: str) -> list[str]:
    lines = []
    for row in pairs.itertuples():
        if np.isnan(row.difference):
            lines.append(f"{row.a} and {row.b} reach no common KL; add values of beta to one")
            continue
        where = f"at the same KL, {row.kl_low:.3g} to {row.kl_high:.3g} nats,"
        measure = Measure(labels.title(metric), labels.unit(metric), row.margin)
        on, digits = measure.title, measure.digits
        a, b, sign = (row.a, row.b, 1) if row.difference >= 0 else (row.b, row.a, -1)
        low, high = sorted((sign * row.low, sign * row.high))
        said = measure.said(sign * row.difference, digits)
        if math.isfinite(low):
            said += f", interval {low:z.{digits}f} to {high:z.{digits}f}"
        if row.finding == "open":
            lines.append(
                f"{where} it is open which of {a} and {b} is better on {on} ({a} by {said})"
            )
        elif row.finding == "equal":
            lines.append(f"{where} {a} and {b} are practically equal on {on} ({a} by {said})")
        else:
            lines.append(f"{where} {a} is better than {b} on {on} by {said}")
    return lines


def _missing(runs: Runs, compared: Comparison) -> str:
    """The commands that train the values of `beta` at which the curves meet, a line each."""
    together: dict[tuple[Any, ...], list[str]] = {}  # losses of the same betas and settings
    for level, factor in zip(compared.levels, _factors(compared), strict=True):
        own = {k: v for k, v in level.parameters.items() if k not in ("loss.name", "beta")}
        names = together.setdefault((factor, *own.items()), [])
        if (name := str(level.parameters["loss.name"])) not in names:
            names.append(name)
    groups = together or {(1.0,): ["mse", "ssim"]}
    lines: list[str] = []
    places: list[str] = []
    for (factor, *fixed), names in groups.items():
        part = names[0] if len(groups) > 1 else ""
        if f"outputs/{commands.rate_name(runs, part)}/sweep" in places:  # the loss on another scale
            part = f"{part}-{len(places)}"
        betas = ",".join(f"{factor * beta:.2g}" for beta in BETAS)
        lines.append(commands.vary_beta(runs, dict(fixed), names, betas, part))
        places.append(f"outputs/{commands.rate_name(runs, part)}/sweep")
    if len(groups) > 1:  # which are sweeps of their own, reported together
        lines.append(module("analysis.report", *places))
    return "\n".join(lines)


def _factors(compared: Comparison) -> list[float]:
    """By what to multiply `beta` for each level so that it has the KL that is usual among them.

    The posterior variance of a unit in use grows with `beta`, so that it loses about half a nat
    for each factor of e.
    """
    kl = compared.results.get("kl")
    active = compared.results.get("active_units")
    if kl is None:
        return [1.0] * len(compared.levels)
    means = kl.means
    units = np.maximum(active.means, 1.0) if active is not None else means / 2
    found = []
    for nats, used, level in zip(means - np.nanmedian(means), units, compared.levels, strict=True):
        growth = np.clip(2 * nats / used, -_MOST, _MOST)
        factor = float(level.parameters.get("beta", 1.0)) * math.exp(growth)
        known = math.isfinite(factor) and not 1 / _NEAR < factor < _NEAR
        found.append(float(f"{factor:.1g}") if known else 1.0)
    return found
