"""The answer in sentences that claim no more than the numbers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis import commands, labels
from analysis.choosing import Chosen, places
from analysis.runs import Runs


def sentences(
    runs: Runs,
    chosen: Sequence[Chosen],
    estimates: pd.DataFrame,
    contenders: pd.DataFrame,
    ranks: pd.DataFrame,
    alpha: float,
) -> list[str]:
    """Who is best at what, who cannot be told apart, and which seeds are missing.

    A group is best only if every other is surely worse; else those are named that may be.

    Args:
        runs: the trials, for the command that adds seeds.
        chosen: the groups.
        estimates: as in `analysis.comparison.Comparison`.
        contenders: the same.
        ranks: the same.
        alpha: level of the tests.
    """
    if not chosen:
        return _nothing(runs)
    level = 1 - alpha
    if len(chosen) == 1:
        return [*_alone(chosen[0], estimates, level), *_missing_seeds(runs, chosen)]
    several = [one for one in chosen if len(one.trials) > 1]
    metrics = [m for m in estimates["metric"].unique() if labels.is_quality(m)]
    if len(several) < 2:
        lines = _leaders(chosen, estimates, metrics)
    else:
        lines = _verdicts(chosen, several, estimates, contenders, metrics, level)
    return [*lines, *_mean_ranks(ranks, metrics), *_missing_seeds(runs, chosen)]


def _nothing(runs: Runs) -> list[str]:
    if runs.trials.empty:
        return ["there are no trials to compare"]
    counts = runs.trials["status"].value_counts()
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    line = f"no trial was completed, so there is nothing to compare ({states})"
    failed = runs.trials.loc[runs.trials["status"] == "failed", "reason"].dropna()
    return [line if failed.empty else f"{line}; the first that failed: {failed.iloc[0]}"]


def _alone(one: Chosen, estimates: pd.DataFrame, level: float) -> list[str]:
    measured = [
        f"{labels.title(row.metric)} "
        f"{labels.estimate(row.metric, row.mean, row.low, row.high, level)}"
        for row in estimates.itertuples()
        if labels.is_quality(row.metric)
    ]
    said = f": {'; '.join(measured)}" if measured else ""
    return [f"there is only {_full_name(one)}, and nothing to compare it with{said}"]


def _leaders(
    chosen: Sequence[Chosen], estimates: pd.DataFrame, metrics: Sequence[str]
) -> list[str]:
    """Without enough seeds for any test."""
    leads: dict[str, list[str]] = {}
    for metric in metrics:
        means = _means(estimates, metric)
        if len(means):
            first = str(means.index[0])
            leads.setdefault(first, []).append(
                f"{labels.title(metric)} ({labels.quantity(metric, means.iloc[0])})"
            )
    names = {one.group: _full_name(one) for one in chosen}
    who = [f"{names[group]} leads on {labels.listed(on)}" for group, on in leads.items()]
    return [f"{'; '.join(who)}; but with one seed that may be luck"] if who else []


def _verdicts(
    chosen: Sequence[Chosen],
    several: Sequence[Chosen],
    estimates: pd.DataFrame,
    contenders: pd.DataFrame,
    metrics: Sequence[str],
    level: float,
) -> list[str]:
    names = {one.group: _full_name(one) for one in several}
    best: dict[str, list[str]] = {}
    tied: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for metric in metrics:
        rows = estimates[(estimates["metric"] == metric) & estimates["group"].isin(list(names))]
        means = _means(rows, metric)
        if len(means) < 2:
            continue
        first = str(means.index[0])
        may_be = contenders[(contenders["metric"] == metric) & contenders["contends"]]
        together = tuple(group for group in names if group in {first, *may_be["group"]})
        if len(together) > 1:
            tied.setdefault(together, []).append((labels.title(metric), first))
        else:
            row = rows[rows["group"] == first].iloc[0]
            said = labels.estimate(metric, row["mean"], row["low"], row["high"], level)
            best.setdefault(first, []).append(f"{labels.title(metric)} ({said})")
    among = (
        f"of {labels.listed(list(names))}, which have several seeds, "
        if len(several) < len(chosen)
        else ""
    )
    lines = [f"{among}{names[group]} is best on {labels.listed(on)}" for group, on in best.items()]
    few = {one: on for one, on in tied.items() if len(one) <= labels.MOST_NAMED}
    many = {one: on for one, on in tied.items() if one not in few}
    lines += [_tie(one, on, len(names), _seeds(several)) for one, on in few.items()]
    return lines + ([_great_tie(many, names, _seeds(several))] if many else [])


def _tie(together: Sequence[str], on: Sequence[tuple[str, str]], groups: int, seeds: str) -> str:
    """Of groups that cannot be told apart, on metrics with the first of each."""
    what = labels.listed([title for title, _ in on])
    if len(together) == groups:
        return f"{labels.listed(together)} cannot be told apart on {what} with {seeds}"
    return (
        f"the best on {what} is one of {labels.listed(together)}, which cannot be told apart "
        f"with {seeds}"
    )


def _great_tie(
    tied: Mapping[tuple[str, ...], Sequence[tuple[str, str]]],
    names: Mapping[str, str],
    seeds: str,
) -> str:
    """Of more groups than a sentence can name."""
    counts = [
        f"{len(together)} on {labels.listed([title for title, _ in on])}"
        for together, on in tied.items()
    ]
    led: dict[str, list[str]] = {}
    for on in tied.values():
        for title, first in on:
            led.setdefault(first, []).append(title)
    firsts = [f"{names[first]} on {labels.listed(titles)}" for first, titles in led.items()]
    return (
        f"with {seeds} the best of {len(names)} cannot be told apart from others: "
        f"{labels.listed(counts)} may be it; first by the mean: {'; '.join(firsts)}"
    )


def _mean_ranks(ranks: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    ranked = ranks.dropna(subset=["mean"])
    if len(ranked) < 2 or len(metrics) < 2:
        return []
    places = [f"{row.group} {row.mean:.1f}" for row in ranked.itertuples()]
    others = len(places) - labels.MOST_NAMED
    places = [*places[: labels.MOST_NAMED], f"{others} more"] if others > 1 else places
    over = labels.listed([labels.title(metric) for metric in metrics])
    return [f"mean rank over {over}, without a test: {labels.listed(places)}"]


def _missing_seeds(runs: Runs, chosen: Sequence[Chosen]) -> list[str]:
    single = [one for one in chosen if len(one.trials) < 2]
    if not single:
        return []
    place = places(runs)
    deepest = max((place.get(one.configuration, 0) for one in chosen), default=0)
    command = commands.add_seeds(runs, best=max(3, deepest))
    who = "all" if len(single) == len(chosen) > 1 else labels.listed([o.group for o in single])
    have = "have" if len(single) > 1 else "has"
    return [
        f"seeds are missing: {who} {have} one, which says nothing of how much another seed would "
        f"change; add some: {command}"
    ]


def _means(estimates: pd.DataFrame, metric: str) -> pd.Series:
    """The mean of each group, the best first."""
    rows = estimates[estimates["metric"] == metric].dropna(subset=["mean"])
    ascending = labels.better(metric) == "minimize"
    ordered = rows.sort_values("mean", ascending=ascending, kind="stable")
    return ordered.set_index("group")["mean"]


def _full_name(one: Chosen) -> str:
    """The group with what else was chosen for it: «mse at latent 64, lr 0.0003»."""
    said = set(one.group.split(", "))
    others = {
        column: value
        for column, value in one.parameters.items()
        if column != "loss.name" and labels.parameters({column: value}) not in said
    }
    return f"{one.group} at {labels.parameters(others)}" if others else one.group


def _seeds(chosen: Sequence[Chosen]) -> str:
    counts = sorted({len(one.trials) for one in chosen})
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
