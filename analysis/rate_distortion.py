"""Losses compared at the same rate: curves of a metric against the KL, in nats per image.

A loss that reconstructs better may only pay more KL for it, and `beta` buys KL from any loss. At
the same KL what is left is what a loss does with its nats: a loss and the same loss times 100 lie
on one curve, at other values of `beta` (Alemi et al. 2018, "Fixing a broken ELBO").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis import commands, labels, statistics
from analysis.choosing import BY, choose
from analysis.comparison import on_common_images
from analysis.runs import Runs
from analysis.statistics import Array

if TYPE_CHECKING:
    from analysis.scores import Scores

BETAS = "0.1,0.3,1,3,10"
"""Of the command that is given where there are too few."""

_MISSING = "to compare losses at the same KL, trials at several values of beta are missing"
_GRID = 65  # KLs at which curves are compared
_POINTS = ("group", "trial", "seed", "beta", "kl", "value")
_BANDS = ("group", "kl", "mean", "low", "high", "seeds")
_PAIRS = (
    "a", "b", "kl_low", "kl_high", "difference", "low", "high", "p", "p_holm", "verdict",
)  # fmt: skip

Curve = tuple[Array, Array]
"""KLs of one seed, increasing, and the metric at each."""


@dataclass(frozen=True)
class RateDistortion:
    """What each loss makes of its nats.

    Attributes:
        metric: on the curves.
        split: of the images, "test" or "val".
        points: a row a trial: `group`, `trial`, `seed`, `beta`, `kl` and the metric's `value`.
        bands: a row a group and KL: the `mean` over seeds of their curves, with Student's interval
            `low` to `high`, NaN with one seed; over the KLs that all seeds of the group reach.
        pairs: a row a pair of groups: the `difference` a - b, averaged over the KLs `kl_low` to
            `kl_high` that all seeds of both reach, with its interval, `p` of none and `p_holm`,
            corrected for all pairs; and the `verdict`: a is "better", "worse" or "undecided".
        notes: what a reader has to know.
        verdict: the answer, in sentences.
        command: what trains the missing values of `beta`, where no two groups have a curve.
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
    scores: Scores | None = None,
    *,
    metric: str = "psnr",
    by: Sequence[str] = BY,
    alpha: float = 0.05,
) -> RateDistortion:
    """Compare groups of trials at the same KL.

    Of each group those trials are taken that differ in nothing but `beta` and the seed, at the
    most values of `beta` (and of those, the best on validation images). Each seed is a curve,
    interpolated without overshoot; a difference is averaged over the KLs that both groups reach
    and tested over seeds (Welch).

    Args:
        runs: the trials.
        scores: of their test images; without them what `runs` says of the test split if all
            trials have it, else of the validation split.
        metric: on the curves.
        by: columns of `runs.trials` that make a group.
        alpha: level of the tests; intervals hold with 1 - alpha.

    Returns:
        Tables and sentences; where there are too few values of `beta`, the command that adds some.

    Raises:
        UserError: there is no such column.
        ValueError: the metric is unknown, or `alpha` does not lie within 0 and 1.
    """
    labels.better(metric)
    statistics.check_level(1 - alpha)
    chosen, _ = choose(runs, by=by)
    completed = runs.trials[runs.trials["status"] == "completed"]
    split, measured = _measured(completed, scores, metric)
    found: list[pd.DataFrame] = []
    for values, rows in measured.groupby(list(by), sort=False, dropna=False):
        group = labels.group_label(dict(zip(by, values, strict=True)))
        found.append(_family(rows, runs, by).assign(group=group))
    points = pd.concat(found)[list(_POINTS)] if found else pd.DataFrame(columns=list(_POINTS))
    curves = {str(group): _curves(rows) for group, rows in points.groupby("group", sort=False)}
    curves = {group: of_seeds for group, of_seeds in curves.items() if of_seeds}
    pairs = _pairs(curves, metric, alpha)
    without = [one.group for one in chosen if one.group not in curves]
    notes = [f"{group} has too few values of beta for a curve" for group in without if curves]
    if split == "val" and curves:
        notes.append("of the validation images, by which checkpoints were chosen")
    command = None
    if len(curves) < 2:
        fixed = dict(chosen[0].parameters) if chosen else {}
        command = _missing(runs, fixed, [str(one.parameters["loss.name"]) for one in chosen])
        verdict = [f"{_MISSING}; add some: {command}"]
    else:
        verdict = _sentences(pairs, metric, 1 - alpha)
    return RateDistortion(
        metric=metric,
        split=split,
        points=points.reset_index(drop=True),
        bands=_bands(curves, 1 - alpha),
        pairs=pairs,
        notes=notes,
        verdict=verdict,
        command=command,
    )


def curve(kl: Sequence[float] | Array, value: Sequence[float] | Array) -> Curve | None:
    """The points of one seed by increasing KL, those of the same KL averaged.

    None with fewer than two.
    """
    kl, value = np.asarray(kl, dtype=np.float64), np.asarray(value, dtype=np.float64)
    finite = np.isfinite(kl) & np.isfinite(value)
    rounded = np.round(kl[finite], 3)  # below a thousandth of a nat, all are collapsed
    levels, index, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=value[finite], minlength=len(levels)) / counts
    return (levels, means) if len(levels) > 1 else None


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


def _measured(trials: pd.DataFrame, scores: Scores | None, metric: str) -> tuple[str, pd.DataFrame]:
    """The split, and the trials with their `kl` and `value` on it."""
    if scores is not None:
        known = on_common_images(scores, map(str, trials["trial"]))
        rows = trials[trials["trial"].isin(known)]
        values = [_score(scores, str(trial), metric) for trial in rows["trial"]]
        kls = scores.split_level["kl"].reindex(rows["trial"]).to_numpy()
        return scores.split, rows.assign(value=values, kl=kls)
    split = "val"
    tested = [f"test/{metric}", "test/kl"]
    if len(trials) and set(tested) <= set(trials.columns) and trials[tested].notna().all(axis=None):
        split = "test"
    columns = {"value": f"{split}/{metric}", "kl": f"{split}/kl"}
    return split, trials.assign(
        **{name: trials.get(column, np.nan) for name, column in columns.items()}
    )


def _score(scores: Scores, trial: str, metric: str) -> float:
    if metric in scores.values[trial]:
        return float(np.mean(scores.values[trial][metric]))
    if metric in scores.split_level.columns:
        return float(scores.split_level.loc[trial, metric])
    return float("nan")


def _family(rows: pd.DataFrame, runs: Runs, by: Sequence[str]) -> pd.DataFrame:
    """Those that differ in `beta` and seed alone, at the most values of `beta`."""
    if "beta" not in rows.columns:
        return rows.assign(beta=np.nan)
    fixed = [c for c in runs.searched if c in rows.columns and c not in (*by, "beta")]
    if not fixed:
        return rows
    objective = (runs.objectives or ("psnr",))[0]
    column = f"val/{objective}"
    sign = 1 if labels.better(objective) == "maximize" else -1

    def merit(family: pd.DataFrame) -> tuple[int, float]:
        best = (sign * family[column]).max() if column in family.columns else 0.0
        return family["beta"].nunique(), float(best)

    families = [family for _, family in rows.groupby(fixed, sort=False, dropna=False)]
    return max(families, key=merit)


def _curves(points: pd.DataFrame) -> list[Curve]:
    found = [
        curve(rows["kl"].to_numpy(), rows["value"].to_numpy())
        for _, rows in points.groupby("seed", sort=False, dropna=False)
    ]
    return [one for one in found if one is not None]


def _bands(curves: Mapping[str, Sequence[Curve]], level: float) -> pd.DataFrame:
    rows = []
    for group, of_seeds in curves.items():
        reached = common_range(of_seeds)
        if reached is None:
            continue
        kls = np.linspace(*reached, _GRID)
        for kl, values in zip(kls, interpolated(of_seeds, kls).T, strict=True):
            mean = statistics.seed_interval(values, level)
            rows.append((group, float(kl), *mean, len(of_seeds)))
    return pd.DataFrame(rows, columns=list(_BANDS))


def _pairs(curves: Mapping[str, Sequence[Curve]], metric: str, alpha: float) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for a, b in combinations(curves, 2):
        row: dict[str, Any] = {"a": a, "b": b}
        reached = common_range([*curves[a], *curves[b]])
        if reached is not None:
            kls = np.linspace(*reached, _GRID)
            means = [_average(interpolated(curves[group], kls)) for group in (a, b)]
            found = statistics.welch_difference(means[0], means[1], 1 - alpha)
            row |= {"kl_low": reached[0], "kl_high": reached[1], "difference": found.value}
            row |= {"low": found.low, "high": found.high, "p": found.p}
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(_PAIRS))
    numbers = [c for c in _PAIRS if c not in ("a", "b", "verdict")]
    table[numbers] = table[numbers].astype(float)
    table["p_holm"] = statistics.holm(table["p"])
    upwards = labels.better(metric) == "maximize"
    table["verdict"] = [
        ("better" if (row.difference > 0) == upwards else "worse")
        if row.p_holm <= alpha
        else "undecided"
        for row in table.itertuples()
    ]
    return table


def _average(values: Array) -> Array:
    """Over equidistant KLs (S, K), by trapezoids."""
    inner = values[:, 1:-1].sum(axis=1) + (values[:, 0] + values[:, -1]) / 2
    means: Array = inner / (values.shape[1] - 1)
    return means


def _sentences(pairs: pd.DataFrame, metric: str, level: float) -> list[str]:
    lines = []
    for row in pairs.itertuples():
        if np.isnan(row.difference):
            lines.append(f"{row.a} and {row.b} reach no common KL; add values of beta to one")
            continue
        where = f"at the same KL, {row.kl_low:.3g} to {row.kl_high:.3g} nats,"
        said = labels.estimate(metric, row.difference, row.low, row.high, level)
        on = labels.title(metric)
        if row.verdict == "undecided":
            why = "" if not np.isnan(row.p) else ", for which seeds are missing"
            lines.append(
                f"{where} {row.a} and {row.b} cannot be told apart on {on} (difference {said}){why}"
            )
        else:
            lines.append(f"{where} {row.a} is {row.verdict} than {row.b} on {on} (by {said})")
    return lines


def _missing(runs: Runs, fixed: Mapping[str, Any], losses: Sequence[str]) -> str:
    kept = {key: value for key, value in fixed.items() if key not in ("loss.name", "beta")}
    names = list(dict.fromkeys(losses)) or ["mse", "ssim"]
    return commands.vary_beta(runs, kept, names, BETAS)
