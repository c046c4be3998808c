"""What is compared: the columns whose values are the levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.design import Design
from analysis.found import DEGREE
from analysis.runs import Runs
from experiments.errors import UserError

LOSS = "loss.name"
_SCALES = ("loss.scale", DEGREE)
_MOST_LEVELS = 16


def design_of(runs: Runs) -> Design | None:
    """How the sweeps compare, as far as they say the same; None where they say nothing."""
    said = list(runs.designs.values())
    if not said:
        return None
    compare, plans = {one.compare for one in said}, {one.planned for one in said}
    keys = said[0].compare if len(compare) == 1 else ()
    margins: Mapping[str, float] = {k: v for one in said for k, v in one.margins.items()}
    return Design(
        keys if set(keys) <= set(runs.trials.columns) else (),
        said[0].planned if len(plans) == 1 else None,
        margins,
    )


def groups_of(runs: Runs) -> tuple[str, ...]:
    """The columns that are compared: those that the sweep says, else the loss where it varies.

    With the loss go its scale and the degree of it, as far as they vary, since the same loss on
    another scale is another one; but where a sweep says that it compares losses alone, what else
    it searched is chosen for each. Where no loss varies, it is the first parameter that was
    searched by a few choices.
    """
    design = design_of(runs)
    if design is not None and design.compare and LOSS not in design.compare:
        return design.compare
    if design is None or not design.compare:
        found = tuple(name for name in (LOSS, *_SCALES) if _choices(runs, name) > 1)
    else:
        more = (n for n in _SCALES if n not in (*design.compare, *runs.searched))
        found = (*design.compare, *(name for name in more if _choices(runs, name) > 1))
    if found:
        return found
    others = (name for name in runs.searched if 1 < _choices(runs, name) <= _MOST_LEVELS)
    return (next(others, LOSS),)


def check_columns(runs: Runs, by: Sequence[str]) -> None:
    """Raise UserError unless levels can be made by these columns."""
    unknown = [column for column in by if column not in runs.trials.columns]
    if isinstance(by, str) or not by or (unknown and len(runs.trials)):
        choices = [*runs.searched, *(c for c in runs.trials.columns if c == LOSS)]
        raise UserError(
            "`by` must be columns of the trials, such as "
            f"{', '.join(dict.fromkeys(choices)) or LOSS}, but got {by!r}"
        )


def _choices(runs: Runs, name: str) -> int:
    return int(runs.trials[name].nunique()) if name in runs.trials else 0
