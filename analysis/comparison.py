"""Losses, or any other groups of trials, compared with uncertainty: `compare`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis import labels, statistics, verdicts
from analysis.choosing import BY, Chosen, choose
from analysis.runs import Runs
from analysis.statistics import Array

if TYPE_CHECKING:
    from analysis.scores import Scores

METRICS = (
    "psnr", "ssim", "ms_ssim", "l1", "laplacian_swd", "kl", "active_units", labels.SECONDS,
)  # fmt: skip
"""What losses are compared on: metrics that none of them trained on alone."""

Measured = Mapping[str, Mapping[str, Array]]
"""By metric and group: (S, N) where each image was scored, (S,) where each seed has one value."""

_CHOSEN = ("group", "configuration", "parameters", "seeds", "trials", "confirmed", "tried")
_ESTIMATES = (
    "group", "metric", "mean", "low", "high", "boot_low", "boot_high", "iqm", "iqm_low",
    "iqm_high", "seeds", "images",
)  # fmt: skip
_CONTENDERS = ("metric", "group", "first", "p", "p_best", "contends")
_PAIRS = (
    "metric", "a", "b", "difference", "low", "high", "p", "p_holm", "probability_of_improvement",
    "probability_low", "probability_high", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Who is better at what, and how sure that is.

    Attributes:
        chosen: a row a group: `group`, the `configuration` that stands for it, its `parameters`
            (a dict), `seeds` and `trials` (tuples), whether it was `confirmed` with fresh seeds,
            and of how many configurations `tried` it is the best.
        estimates: a row a group and metric: the `mean` over seeds and images with Student's
            interval `low` to `high` and the bootstrap's `boot_low` to `boot_high` (too narrow with
            few seeds, see `analysis.statistics.bootstrap`); the interquartile mean `iqm` with the
            bootstrap's interval; how many `seeds` and `images`. Intervals are NaN with one seed,
            `images` is 0 where a seed has one value.
        pairs: a row a metric and pair of groups: the `difference` of means a - b with its
            interval; `p` of no difference and `p_holm`, corrected for all pairs and metrics; the
            `probability_of_improvement` of a over b on an image, with the bootstrap's interval
            `probability_low` to `probability_high` (NaN where a seed has one value); and the
            `verdict`: a is "better" or "worse" ("higher" or "lower" where neither is good as
            such), or "undecided".
        contenders: a row a metric that says how good a model is and a group of several seeds: is it
            `first` by the mean; `p` of no difference from the first, and `p_best`, corrected, of
            being the best; and whether it `contends`, as all do that may be the best. The truly
            best of each metric contends: that is wrong for any of them with a probability of
            `alpha` at most.
        ranks: a row a group: its place in each metric, and `mean`, over those that say how good a
            model is; the best first.
        split: of the images, "test" or "val".
        alpha: level of the tests; intervals hold with 1 - alpha.
        notes: what a reader has to know.
        verdict: the answer, in sentences.
    """

    chosen: pd.DataFrame
    estimates: pd.DataFrame
    pairs: pd.DataFrame
    contenders: pd.DataFrame
    ranks: pd.DataFrame
    split: str
    alpha: float
    notes: list[str] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)


def compare(
    runs: Runs,
    scores: Scores | None = None,
    *,
    by: Sequence[str] = BY,
    metrics: Sequence[str] = METRICS,
    alpha: float = 0.05,
    equal_budget: bool = True,
) -> Comparison:
    """Compare groups of trials, each by the configuration that the validation split chose.

    How configurations are chosen: `analysis.choosing.choose`. Where images were scored, both
    seeds and images count as random and the same images are paired; else (KL, active units,
    sliced Wasserstein, seconds per epoch, or without `scores`) seeds alone are, and images are
    taken as they are. p-values are corrected by Holm over all pairs and over all metrics that say
    how good a model is, so that all verdicts together are wrong with a probability of `alpha` at
    most; those of KL, active units and seconds per epoch are corrected for themselves.

    KL and active units are neither good nor bad as such and seconds are a cost, so they are
    compared and ranked for information but do not count in the mean rank.

    Args:
        runs: the trials.
        scores: of the chosen trials, each image, on the test split; without them the metrics in
            `runs` are compared, those of the test split if every chosen trial has them.
        by: columns of `runs.trials` that make a group.
        metrics: names of metrics, `seconds/epoch`, or `distance/<loss>`.
        alpha: level of the tests.
        equal_budget: see `choose`.

    Returns:
        Tables and sentences; empty tables if nothing was completed.

    Raises:
        UserError: there is no such column.
        ValueError: a metric is unknown, or `alpha` does not lie within 0 and 1.
    """
    for metric in metrics:
        labels.better(metric)
    statistics.check_level(1 - alpha)
    chosen, notes = choose(runs, by=by, equal_budget=equal_budget)
    split = scores.split if scores is not None else _split_of(runs, chosen, metrics)
    measured = _measured(runs, scores, chosen, metrics, split)
    estimates = _table(_ESTIMATES, _estimates(measured, 1 - alpha))
    pairs = _table(_PAIRS, _pairs(measured, alpha))
    contenders = _table(_CONTENDERS, _contenders(estimates, pairs, alpha))
    groups = [one.group for one in chosen]
    ranks = _ranks(estimates, groups, [m for m in metrics if m in measured])
    notes += _notes(runs, scores, chosen, metrics, measured, split)
    return Comparison(
        chosen=_table(_CHOSEN, [{name: getattr(one, name) for name in _CHOSEN} for one in chosen]),
        estimates=estimates,
        pairs=pairs,
        contenders=contenders,
        ranks=ranks,
        split=split,
        alpha=alpha,
        notes=notes,
        verdict=verdicts.sentences(runs, chosen, estimates, contenders, ranks, alpha),
    )


def _measured(
    runs: Runs,
    scores: Scores | None,
    chosen: Sequence[Chosen],
    metrics: Sequence[str],
    split: str,
) -> Measured:
    """What there is of each metric and group, on the same images."""
    rows = runs.trials.set_index("trial")
    own = [trial for one in chosen for trial in one.trials]
    comparable = on_common_images(scores, own) if scores is not None else frozenset()
    found: dict[str, dict[str, Array]] = {}
    for metric in metrics:
        for one in chosen:
            values = _by_image(scores, one, metric, comparable)
            if values is None:
                values = _by_seed(rows, scores, one, metric, split)
            if values.size:
                found.setdefault(metric, {})[one.group] = values
    return found


def on_common_images(scores: Scores, trials: Iterable[str]) -> frozenset[str]:
    """Those of the trials that were scored on the held-out images that most of them were."""
    wanted = set(trials)
    return frozenset(max((wanted & set(group) for group in scores.groups()), key=len, default=()))


def _by_image(
    scores: Scores | None, one: Chosen, metric: str, comparable: frozenset[str]
) -> Array | None:
    """(S, N) of the group's comparable trials that have the metric; None if there is none."""
    if scores is None:
        return None
    trials = [trial for trial in one.trials if trial in comparable]
    rows = [scores.values[trial][metric] for trial in trials if metric in scores.values[trial]]
    return np.stack(rows).astype(np.float64) if rows else None


def _by_seed(
    rows: pd.DataFrame, scores: Scores | None, one: Chosen, metric: str, split: str
) -> Array:
    """(S,) of the group's trials that have the metric."""
    trials = list(one.trials)
    if metric == labels.SECONDS:
        column = rows[metric] if metric in rows.columns else None
    elif scores is not None and metric in scores.split_level.columns:
        column = scores.split_level[metric].reindex(trials)
    else:
        name = f"{split}/{metric}"
        column = rows[name] if name in rows.columns else None
    if column is None:
        return np.empty(0)
    values: Array = column.loc[trials].dropna().to_numpy(dtype=np.float64)
    return values


def _estimates(measured: Measured, level: float) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for metric, groups in measured.items():
        for group, values in groups.items():
            by_image = values.ndim == 2
            mean = (statistics.mean_interval if by_image else statistics.seed_interval)(
                values, level
            )
            table = values if by_image else values[:, None]
            bounds = _bootstrapped(table, level) if len(values) > 1 else (np.nan,) * 4
            found.append({
                "group": group, "metric": metric,
                "mean": mean.value, "low": mean.low, "high": mean.high,
                "boot_low": bounds[0], "boot_high": bounds[1],
                "iqm": statistics.interquartile_mean(values),
                "iqm_low": bounds[2], "iqm_high": bounds[3],
                "seeds": len(values), "images": values.shape[1] if by_image else 0,
            })  # fmt: skip
    return found


def _bootstrapped(values: Array, level: float) -> tuple[float, ...]:
    drawn = statistics.draw(*values.shape)
    means = statistics.resampled_means(values, drawn)
    middle = statistics.resampled_interquartile_means(values, drawn)
    return (
        *statistics.percentile_interval(means, level),
        *statistics.percentile_interval(middle, level),
    )


def _pairs(measured: Measured, alpha: float) -> list[dict[str, object]]:
    found = [
        _pair(metric, a, b, groups[a], groups[b], 1 - alpha)
        for metric, groups in measured.items()
        for a, b in combinations(groups, 2)
    ]
    for quality in (True, False):
        family = [pair for pair in found if labels.is_quality(str(pair["metric"])) == quality]
        for pair, p in zip(family, statistics.holm([_p(pair) for pair in family]), strict=True):
            pair["p_holm"] = float(p)
            pair["verdict"] = _verdict(pair, alpha)
    return found


def _pair(metric: str, a: str, b: str, of_a: Array, of_b: Array, level: float) -> dict[str, object]:
    share, low, high = np.nan, np.nan, np.nan
    if of_a.ndim == of_b.ndim == 2:
        difference = statistics.paired_difference(of_a, of_b, level)
        sign = 1 if labels.better(metric) == "maximize" else -1
        share = statistics.probability_of_improvement(sign * of_a, sign * of_b)
        if min(len(of_a), len(of_b)) > 1:
            drawn = [statistics.draw(*values.shape) for values in (of_a, of_b)]
            resampled = statistics.resampled_improvement(sign * of_a, sign * of_b, *drawn)
            low, high = statistics.percentile_interval(resampled, level)
    else:
        difference = statistics.welch_difference(_seed_means(of_a), _seed_means(of_b), level)
    return {
        "metric": metric, "a": a, "b": b,
        "difference": difference.value, "low": difference.low, "high": difference.high,
        "p": difference.p, "probability_of_improvement": share,
        "probability_low": low, "probability_high": high,
    }  # fmt: skip


def _contenders(
    estimates: pd.DataFrame, pairs: pd.DataFrame, alpha: float
) -> list[dict[str, object]]:
    """Who may be the best on each metric: those that are not surely worse than the first.

    The truly best of k groups is left out only if one of k - 1 is found better than it, whichever
    came first; so p is corrected for k - 1 comparisons (and the number of metrics), not for all
    pairs (subset selection: Gupta 1965; Hsu 1981). Two-sided, so that of groups that are all the
    same one is called the best with a probability of `alpha` at most, too.
    """
    metrics = [metric for metric in estimates["metric"].unique() if labels.is_quality(metric)]
    found: list[dict[str, object]] = []
    for metric in metrics:
        rows = estimates[(estimates["metric"] == metric) & (estimates["seeds"] > 1)]
        means = rows.set_index("group")["mean"].dropna()
        if len(means) < 2:
            continue
        first = means.idxmax() if labels.better(metric) == "maximize" else means.idxmin()
        of_metric = pairs[pairs["metric"] == metric]
        p = {
            row.b if row.a == first else row.a: row.p
            for row in of_metric.itertuples()
            if first in (row.a, row.b)
        }
        for group in means.index:
            p_best = min(1.0, p.get(group, 1.0) * (len(means) - 1) * len(metrics))
            found.append({
                "metric": metric, "group": group, "first": group == first,
                "p": p.get(group, np.nan), "p_best": p_best, "contends": not p_best <= alpha,
            })  # fmt: skip
    return found


def _seed_means(values: Array) -> Array:
    means: Array = values.reshape(len(values), -1).mean(axis=1)
    return means


def _p(pair: Mapping[str, object]) -> float:
    p = pair["p"]
    assert isinstance(p, float)
    return p


def _verdict(pair: Mapping[str, object], alpha: float) -> str:
    metric, difference, p = str(pair["metric"]), pair["difference"], pair["p_holm"]
    assert isinstance(difference, float)
    assert isinstance(p, float)
    if not p <= alpha:
        return "undecided"
    if metric in labels.DESCRIPTIVE:
        return "higher" if difference > 0 else "lower"
    return "better" if (difference > 0) == (labels.better(metric) == "maximize") else "worse"


def _ranks(estimates: pd.DataFrame, groups: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame({"group": list(groups)})
    means = estimates.pivot(index="group", columns="metric", values="mean").reindex(groups)
    for metric in metrics:
        table[metric] = statistics.ranks(means[metric], labels.better(metric))
    counted = [metric for metric in metrics if labels.is_quality(metric)]
    table["mean"] = statistics.mean_ranks(table[counted]) if counted else np.nan
    return table.sort_values("mean", kind="stable", ignore_index=True)


def _split_of(runs: Runs, chosen: Sequence[Chosen], metrics: Sequence[str]) -> str:
    """The test split if all that stand for a group were scored on it."""
    own = [trial for one in chosen for trial in one.trials]
    rows = runs.trials.set_index("trial").loc[own]
    columns = [f"test/{metric}" for metric in metrics if f"val/{metric}" in rows.columns]
    scored = bool(columns) and all(c in rows.columns and rows[c].notna().all() for c in columns)
    return "test" if scored else "val"


def _notes(
    runs: Runs,
    scores: Scores | None,
    chosen: Sequence[Chosen],
    metrics: Sequence[str],
    measured: Measured,
    split: str,
) -> list[str]:
    notes = []
    if chosen and split == "val":
        notes.append(
            "scores are of the validation images, by which checkpoints and configurations were "
            "chosen, so they are somewhat too good; score the test images for the real ones"
        )
    if scores is not None:
        own = {trial for one in chosen for trial in one.trials}
        lost = [broken for broken in scores.missing if broken.where in own]
        notes += [f"{broken.where} has no scores: {broken.reason}" for broken in lost]
    elif len(chosen) > 1:
        notes.append(
            "intervals are for other seeds on these same images, since there are no scores of "
            "single images"
        )
    unknown = [labels.title(metric) for metric in metrics if metric not in measured]
    if chosen and unknown:
        notes.append(f"not measured: {labels.listed(unknown)}")
    return notes


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
