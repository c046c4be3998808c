"""The live picture of a sweep, made of Rich's parts.

Names and values go into `Text`, never into markup, which would eat their brackets.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweeps.results.configurations import Configuration
from sweeps.screen.formatting import clock, number, parameters, parameters_of, spread
from sweeps.screen.progress import Snapshot
from sweeps.storage.attributes import EPOCHS, last_report

_FRONT = 5  # configurations of a Pareto front that are shown
_FRAME = 8  # lines that are no rows: headers, gaps and the cursor's


def screen(
    snapshot: Snapshot | None,
    names: Sequence[str],
    *,
    elapsed: float,
    left: str,
    stale: str | None,
    height: int,
) -> RenderableType:
    """The whole picture.

    Args:
        snapshot: None while nothing could be read.
        names: of the objectives.
        elapsed: seconds since the view began.
        left: how long it will take; may be empty.
        stale: why and since when this is no longer the state, or None.
        height: lines of the terminal.
    """
    title = Text(snapshot.name if snapshot else "sweep", style="bold", no_wrap=True)
    title.overflow = "ellipsis"
    title.append(f"  {clock(elapsed)}" + (f", {left}" if left else ""), style="default not bold")
    parts: list[RenderableType] = [title]
    if stale is not None:
        parts.append(Text(stale, style="yellow", no_wrap=True, overflow="ellipsis"))
    if snapshot is None:
        return Group(*parts)
    parts.append(counts(snapshot))
    best = snapshot.front[:_FRONT]
    if snapshot.running:
        rows = max(1, height - _FRAME - len(best))
        parts += [Text(), _running(snapshot.running, names, rows)]
        if len(snapshot.running) > rows:
            parts.append(Text(f"and {len(snapshot.running) - rows} more", style="dim"))
    if best:
        parts += [Text(), _best(best, len(snapshot.front), names)]
    return Group(*parts)


def counts(snapshot: Snapshot) -> Text:
    """How many trials are in which state."""
    states = snapshot.states
    waiting = states[TrialState.WAITING]
    if snapshot.total is not None:
        begun = sum(states.values()) - waiting
        waiting = max(waiting, snapshot.total - begun)
    ended, all_of_them = snapshot.confirmations
    confirmed = f"; {ended} of {all_of_them} confirmations" if all_of_them else ""
    return Text(
        f"{snapshot.finished}{of_total(snapshot)} trials: {states[TrialState.COMPLETE]} done, "
        f"{states[TrialState.PRUNED]} pruned, {states[TrialState.FAIL]} failed, "
        f"{states[TrialState.RUNNING]} running, {waiting} waiting{confirmed}"
    )


def of_total(snapshot: Snapshot) -> str:
    """What follows a number of trials."""
    return "" if snapshot.total is None else f" of {snapshot.total}"


def _running(running: Sequence[FrozenTrial], names: Sequence[str], rows: int) -> Table:
    table = _table("running", "epoch", *names)
    for trial in running[:rows]:
        report = last_report(trial)
        epoch, values = report if report else (0, [None] * len(names))
        epochs = trial.user_attrs.get(EPOCHS, "?")
        cells = [f"trial {trial.number}", f"{epoch}/{epochs}", *map(number, values)]
        table.add_row(*map(Text, cells), Text(parameters_of(trial)))
    return table


def _best(best: Sequence[Configuration], size: int, names: Sequence[str]) -> Table:
    heading = "best so far" if len(names) == 1 else f"front of {size}"
    table = _table(heading, "seeds", *names)
    for one in best:
        cells = [f"trial {one.trial}", str(one.seeds)]
        cells += [spread(mean, std) for mean, std in zip(one.means, one.stds, strict=True)]
        table.add_row(*map(Text, cells), Text(parameters(one.params)))
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    # The one column that gives way where the terminal is narrow.
    table.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1)
    return table
