"""What a person sees while a sweep runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.results.configurations import Configuration
from sweeps.screen.formatting import (
    duration,
    number,
    objective_values,
    parameters_of,
)
from sweeps.screen.progress import Progress, Snapshot
from sweeps.space.grid import Grid
from sweeps.storage.attributes import REASON, SAME_AS, is_confirmation, last_report
from sweeps.workers.logs import first_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_EVERY = 1.0  # seconds
_PATIENCE = 5.0  # seconds to wait at the end for a read that hangs

log = logging.getLogger(__name__)


class View:
    """Shows how a sweep goes: live in a terminal, else one line for each trial that ends.

    A context manager with a thread of its own. A study that cannot be read for a while does not
    disturb the sweep: the state of the last read stays, with the reason.

    Args:
        study_provider: gives the study; asked again after an error.
        names: of the objectives.
        budget: how many trials the search may make; None if only time limits it.
        deadline: when the sweep must end, as `time.time()` counts; None if it need not.
        console: Rich's; by default standard output.
        grid: whose points are trained, see `sweeps.screen.progress.Progress`.
    """

    def __init__(
        self,
        study_provider: Callable[[], optuna.Study],
        names: Sequence[str],
        budget: int | None,
        deadline: float | None,
        console: Console | None = None,
        grid: Grid | None = None,
    ) -> None:
        from rich.console import Console

        self._provider = study_provider
        self._names = names
        self._deadline = deadline
        self._console = Console() if console is None else console
        self._progress = Progress(names, budget, grid)
        self._study: optuna.Study | None = None
        self._snapshot: Snapshot | None = None
        self._trouble: str | None = None
        self._seen = self._began = time.time()
        self._live: Live | None = None
        self._lock = threading.Lock()  # of what a refresh changes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep-view", daemon=True)

    def __enter__(self) -> View:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            with _whatever_the_terminal_does():
                self._live.start()
        self.refresh()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self.refresh()
        if self._live is not None:
            with _whatever_the_terminal_does():
                self._live.stop()

    def refresh(self) -> None:
        """Read the study and show it; an error is shown in place of what is new."""
        with self._lock:
            try:
                self._read()
            except Exception as error:  # noqa: BLE001 - no trouble of a view may end a sweep
                self._note(error)
            with _whatever_the_terminal_does():
                self._show()

    def _read(self) -> None:
        if self._study is None:
            self._study = self._provider()
        self._snapshot = self._progress.read(self._study)
        self._seen, self._trouble = time.time(), None

    def _show(self) -> None:
        if self._live is not None:
            self._draw(self._live)
        elif self._snapshot is not None and self._trouble is None:
            self._print_ended(self._snapshot)

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            self.refresh()

    def _note(self, error: Exception) -> None:
        self._study = None
        if self._trouble is None and self._live is None:
            log.warning("the study cannot be read, so its progress is not shown: %s", error)
        self._trouble = f"{type(error).__name__}: {first_line(str(error))}"

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _draw(self, live: Live) -> None:
        from sweeps.screen.rendering import screen

        stale = None
        if self._trouble is not None:
            stale = f"as of {duration(time.time() - self._seen)} ago, since {self._trouble}"
        live.update(
            screen(
                self._snapshot,
                self._names,
                elapsed=time.time() - self._began,
                left=self._left(),
                stale=stale,
                height=self._console.size.height,
            ),
            refresh=True,
        )

    def _print_ended(self, snapshot: Snapshot) -> None:
        from sweeps.screen.rendering import of_total

        count = snapshot.finished - sum(map(self._progress.counts, snapshot.ended))
        confirmed = snapshot.confirmations[0] - sum(map(is_confirmation, snapshot.ended))
        left = self._left()
        for trial in snapshot.ended:
            count += self._progress.counts(trial)
            confirmed += is_confirmation(trial)
            text = f"{line(trial, snapshot.front, self._names)}; {count}{of_total(snapshot)} done"
            if is_confirmation(trial):
                text += f", {confirmed} confirmation{'' if confirmed == 1 else 's'}"
            self._print(f"{text}, {left}" if left else text)

    def _left(self) -> str:
        estimate = self._snapshot.seconds_left if self._snapshot else None
        if estimate is not None:
            estimate = max(0.0, estimate - (time.time() - self._seen))
        until = None if self._deadline is None else max(0.0, self._deadline - time.time())
        if until is not None and (estimate is None or until < estimate):
            return f"{duration(until)} to the deadline"
        # Below a second nothing is left, or an estimate was wrong.
        return "" if estimate is None or estimate < 1 else f"about {duration(estimate)} left"


@contextmanager
def _whatever_the_terminal_does() -> Iterator[None]:
    """A terminal that is gone, or `| head`, may end the view but not the sweep."""
    try:
        yield
    except (Exception, SystemExit):  # Rich exits on a broken pipe
        log.debug("the progress cannot be shown", exc_info=True)


def line(trial: FrozenTrial, front: Sequence[Configuration], names: Sequence[str]) -> str:
    """What a trial that ended gave, and the best so far."""
    parts = [_outcome(trial, names)]
    params = parameters_of(trial)
    if params:
        parts.append(f" ({params})")
    if front and len(names) == 1:
        parts.append(f", best {names[0]} {number(front[0].means[0])}")
    elif front:
        parts.append(f", front of {len(front)}")
    return "".join(parts)


def _outcome(trial: FrozenTrial, names: Sequence[str]) -> str:
    name = f"trial {trial.number}"
    if trial.state == TrialState.COMPLETE:
        copied = trial.user_attrs.get(SAME_AS)
        note = "" if copied is None else f", as trial {copied}"
        return f"{name} done: {objective_values(names, trial.values)}{note}"
    if trial.state == TrialState.PRUNED:
        report = last_report(trial)
        if report is None:
            return f"{name} pruned"
        return f"{name} pruned at epoch {report[0]}: {objective_values(names, report[1])}"
    reason = first_line(str(trial.user_attrs.get(REASON) or "for no known reason"))
    return f"{name} failed: {reason}"
