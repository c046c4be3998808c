"""A claim, and what becomes of it where two claim the same at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from sweeps.space.points import Values
from sweeps.storage import private
from sweeps.storage.attributes import (
    CONFIRM,
    PHASE,
    POINT,
    budgeted,
    is_confirmation,
    is_superseded,
    point_of,
)
from sweeps.study.counts import Counts


@dataclass(frozen=True)
class Claim:
    """A trial that this worker, and no other, is to train.

    Attributes:
        trial: Optuna's.
        values: of its parameters.
        seed: of the trial, if seeds are searched.
        number: of the first trial that this one continues, whose directory it goes on with.
        overrides: of Hydra, as they were when the trial first began; None to make them.
        is_new: it was begun without a point.
        has_params: they are stored in the trial.
    """

    trial: optuna.Trial
    values: Values
    seed: int | None
    number: int
    overrides: tuple[str, ...] | None = None
    is_new: bool = False
    has_params: bool = False

    @property
    def is_confirmation(self) -> bool:
        """Whether it only repeats another with a fresh seed."""
        return private.attributes(self.trial).get(PHASE) == CONFIRM


def is_one_too_many(
    claim: Claim, trials: Sequence[FrozenTrial], counts: Counts, limit: int | None
) -> bool:
    """Whether a trial is one too many, since somebody claimed at the same time.

    Where the lock does not reach everybody, or a server that restarts lets go of it, two may begin
    the last trial of the budget, or the same point. Numbers are given out one by one, so the lower
    one stays; of two trials that were given their points after their numbers, neither need have
    seen the other.

    Args:
        claim: that was made.
        trials: of the study, brought up to date since.
        counts: of these.
        limit: the budget; None where there is none.
    """
    mine = trials[claim.trial.number]
    own = {mine.number, *private.history_of(mine)}
    rivals = counts.holders(point_of(mine)) - own if POINT in mine.user_attrs else ()
    is_taken = any(claim.is_new or number < mine.number for number in rivals)
    chain = [t for t in trials[: mine.number] if private.first_of(t) == claim.number]
    # A trial that was retried twice; one of the two may have made way already.
    is_taken |= any(t.number not in own and not is_superseded(t) for t in chain)
    is_beyond = claim.is_new and limit is not None
    if is_beyond:
        place = claim.number, mine.number
        # One that was taken over has its unit, also while nobody has cloned it yet.
        units = [*budgeted(trials), *(trials[number] for number in counts.unretried)]
        earlier = {
            private.first_of(t)
            for t in units
            if not is_confirmation(t) and (private.first_of(t), t.number) < place
        }
        is_beyond = len(earlier) >= (limit or 0)
    return is_taken or is_beyond
