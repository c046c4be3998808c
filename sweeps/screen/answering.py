"""The answer of a sweep, in the last lines of its output, and the command for what is open."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna

from sweeps.plan import Plan
from sweeps.results.comparing import Comparison, comparisons
from sweeps.space.grid import Grid

if TYPE_CHECKING:
    from rich.console import Console

_INDENT = " " * 8
_AIM = "what would probably settle it"


def print_answer(
    study: optuna.Study, plan: Plan, command: Sequence[str], console: Console | None = None
) -> None:
    """Print what is best, by how much, what is as good, and how to settle what is open.

    Args:
        study: whose trials have ended.
        plan: of the sweep.
        command: as it was given, in words.
        console: Rich's; by default standard output.
    """
    from rich.console import Console

    console = Console() if console is None else console
    for text in answer_lines(study, plan, command):
        console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def answer_lines(study: optuna.Study, plan: Plan, command: Sequence[str]) -> list[str]:
    """The lines of `print_answer`; none where nothing is compared."""
    found = comparisons(study, plan.objectives)
    lines = [""] if found else []
    for one in found:
        heading = f"by {one.objective}: " if len(found) > 1 else ""
        first, *others = one.answer.sentences
        lines += [f"answer: {heading}{first}", *(f"{_INDENT}{text}" for text in others)]
        lines += [f"{_INDENT}{text}" for text in _left_out(one)]
    following = _next(found[0], plan, command) if found and command else ""
    return [*lines, *([following] if following else [])]


def _left_out(found: Comparison) -> list[str]:
    scores = found.scores
    lines = [f"{level} is not compared: {why}" for level, why in scores.left_out.items()]
    return lines + [
        f"{failed} of {failed + len(names)} trainings of {level} failed"
        for level, failed, names in zip(scores.levels, scores.failed, scores.names, strict=True)
        if failed
    ]


def _next(found: Comparison, plan: Plan, command: Sequence[str]) -> str:
    """How to settle what is open; empty where nothing is."""
    if not found.answer.open_levels:
        return ""
    seeds, have = found.answer.seeds, len(found.scores.seeds)
    is_seeded = plan.grid and len(plan.space.seeds) > 1
    if not (found.scores.is_fresh or is_seeded):
        runs = len(found.scores.levels) * plan.settings.confirm_seeds
        aim, changed = "to train the best of each with fresh seeds", {"sweep.confirm": "1"}
    elif seeds is None:
        return f"{_INDENT}no number of seeds that is worth its time is likely to settle it"
    elif found.scores.is_fresh:
        runs = len(found.answer.open_levels) * max(0, seeds - have)
        aim, changed = _AIM, {"sweep.confirm_seeds": str(seeds)}
    else:
        runs = Grid(plan.space).size // len(plan.space.seeds) * max(0, seeds - have)
        aim, changed = _AIM, {"seed": ",".join(map(str, range(seeds)))}
    return f"{_INDENT}{aim}, {_amount(found, plan, runs)}: {_changed(command, changed)}"


def _amount(found: Comparison, plan: Plan, runs: int) -> str:
    seconds = [s for s in found.seconds if s is not None]
    text = f"{runs} run{'' if runs == 1 else 's'}"
    if not seconds:
        return text
    minutes = runs * sum(seconds) / len(seconds) / max(1, plan.workers) / 60
    return f"{text}, about {max(1, round(minutes))} minute{'' if minutes < 1.5 else 's'}"


def _changed(command: Sequence[str], changed: dict[str, str]) -> str:
    """The command with other values of some keys."""
    kept = [word for word in command if word.partition("=")[0] not in changed]
    return shlex.join([*kept, *(f"{key}={value}" for key, value in changed.items())])
