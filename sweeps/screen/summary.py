"""The report that a person sees when a sweep ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.metrics import METRICS
from sweeps.results.importance import importances
from sweeps.results.ranking import Ranked, ranking
from sweeps.screen.formatting import number, parameters, spread, trials_of
from sweeps.storage.attributes import REASON, counted
from sweeps.workers.logs import first_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHOWN = 10
_UNBOUNDED = 10_000
_WIDE = 100  # characters, below which a table leaves out what matters least
_WORDS = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def print_summary(
    study: optuna.Study,
    names: Sequence[str],
    console: Console | None = None,
) -> None:
    """Print the best configurations, what mattered and how the trials ended.

    Args:
        study: whose trials have ended.
        names: of the objectives.
        console: Rich's; by default standard output.

    Raises:
        ValueError: there is not one name for each objective.
    """
    from rich.console import Console

    console = Console() if console is None else console
    trials = counted(study.get_trials(deepcopy=False))
    ranked = ranking(study, names)
    sign = "±" if console.encoding.startswith("utf") else "+-"
    if ranked:
        is_wide = not console.is_terminal or console.width >= _WIDE
        table = _table(study.study_name, ranked, names, sign, is_wide=is_wide)
        if not console.is_terminal:  # a file has no width
            unbounded = console.options.update(width=_UNBOUNDED)
            console.width = max(console.width, console.measure(table, options=unbounded).maximum)
        console.print(table)
    lines = [
        *_legend(ranked[:_SHOWN], names, sign),
        f"{study.study_name}: {_states(trials)}",
        *_failure(trials, bool(ranked)),
        *_importance_lines(importances(study, names)),
        *(home_ground(trials, names) if ranked else ()),
    ]
    for text in lines:
        # A log file is searched by line; a terminal would break words.
        whole = not console.is_terminal
        console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=whole)


def print_paths(paths: Mapping[str, Path | str], console: Console | None = None) -> None:
    """Print where things are.

    Args:
        paths: or texts, such as URLs, by what they hold.
        console: Rich's; by default standard output.
    """
    print_lines(_path_lines(paths), console)


def print_lines(lines: Sequence[str], console: Console | None = None) -> None:
    """Print lines as they are: commands and paths are copied, and so never broken.

    Args:
        lines: to print.
        console: Rich's; by default standard output.
    """
    from rich.console import Console

    console = Console() if console is None else console
    for text in lines:
        console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def home_ground(trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[str]:
    """A note for a search over losses by one metric, which favours the loss that trains it."""
    losses = {trial.params["loss"] for trial in trials if "loss" in trial.params}
    metric = METRICS.get(names[0])
    if len(names) > 1 or len(losses) < 2 or metric is None or not metric.home_of:
        return []
    home = " and ".join(metric.home_of)
    return [
        f"note: {names[0]} is the home ground of {home}: compare by several metrics, "
        "objective=[psnr,ms_ssim]"
    ]


def _table(
    name: str, ranked: Sequence[Ranked], names: Sequence[str], sign: str, *, is_wide: bool
) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = f", the best {_SHOWN}" if len(ranked) > _SHOWN else ""
    plural = "" if len(ranked) == 1 else "s"
    title = Text(f"{name}: {len(ranked)} configuration{plural}{shown}", style="bold")
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    table.title_justify = "left"
    lengths = ("epochs", "seconds") if is_wide else ()
    for heading in ("rank", "trial", *names, "seeds", *lengths):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    for entry in ranked[:_SHOWN]:
        one = entry.configuration
        cells = [str(entry.rank), str(one.trial)]
        cells += [spread(mean, std, sign) for mean, std in zip(one.means, one.stds, strict=True)]
        cells.append(str(one.seeds))
        cells += [number(one.epochs), _seconds(one.seconds)] if is_wide else []
        table.add_row(*map(Text, cells), Text(parameters(one.params)))
    return table


def _legend(ranked: Sequence[Ranked], names: Sequence[str], sign: str) -> list[str]:
    """What the table's columns are."""
    if not ranked:
        return []
    parts = []
    for name in names:
        metric = METRICS.get(name)
        if metric is not None:
            better = "higher" if metric.direction == "maximize" else "lower"
            unit = f" in {metric.unit}" if metric.unit else ""
            parts.append(f"{name}{unit}, {better} is better")
    if any(entry.configuration.seeds > 1 for entry in ranked):
        fresh = (
            ", the search's own left out" if any(e.configuration.confirmed for e in ranked) else ""
        )
        parts.append(f"mean {sign} standard deviation over seeds{fresh}")
    unfinished = sum(entry.configuration.unfinished for entry in ranked)
    if unfinished:
        parts.append(f"without {unfinished} of their trials that were pruned or failed")
    return ["; ".join(parts)] if parts else []


def _states(trials: Sequence[FrozenTrial]) -> str:
    states = Counter(trial.state for trial in trials)
    parts = [f"{states[state]} {word}" for state, word in _WORDS.items() if states[state]]
    return f"{trials_of(len(trials))}: {', '.join(parts)}" if parts else "no trial has begun"


def _failure(trials: Sequence[FrozenTrial], any_completed: bool) -> list[str]:
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    if not failed:
        return []
    reason = str(failed[0].user_attrs.get(REASON) or "for no known reason").strip()
    if any_completed:
        return [f"the first that failed, trial {failed[0].number}: {first_line(reason)}"]
    return [f"no trial was completed; the first that failed, trial {failed[0].number}: {reason}"]


def _importance_lines(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"importance for {objective}: "
        + ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        for objective, shares in found.items()
    ]


def _path_lines(paths: Mapping[str, Path | str]) -> list[str]:
    width = max(map(len, paths), default=0)
    return [f"{name:<{width}}  {_short(path)}" for name, path in paths.items()]


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _short(path: Path | str) -> str:
    """Relative to the working directory if it lies there; a text, such as a URL, as it is."""
    if isinstance(path, Path) and path.absolute().is_relative_to(Path.cwd()):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)
