"""The protocol without one of its repairs: what the simulation must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import UserError
from experiments.record.fence import Fence
from sweeps.results import ranking as results
from sweeps.search.pruning import CountedPruner, Reporting
from sweeps.storage import private
from sweeps.storage.attributes import LEASE
from sweeps.study import counts, execution, recovery
from sweeps.study.claims import Claims
from sweeps.study.execution import Worker
from sweeps.study.leases import Watch
from sweeps.study.stopping import Stopping
from sweeps.study.supervision import Pool, Supervisor
from tests.simulation import programs, world
from tests.simulation import storage as simulated_storage
from tests.simulation.schedule import Result, simulate
from tests.simulation.world import SimulatedSystem


@dataclass(frozen=True)
class Mutation:
    """A repair that is taken away.

    Attributes:
        fault: in words.
        take_away: by these patches.
        kinds: of what goes wrong in the schedules that look for it.
        drawn: what must be so in them (see `tests.simulation.settings.draw`).
    """

    fault: str
    take_away: Callable[[pytest.MonkeyPatch], None]
    kinds: tuple[str, ...]
    drawn: Mapping[str, Any] = field(default_factory=dict)


def _nobody_waits_for_the_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "settle", lambda self, should_stop, say: None)


def _silence_counts_while_nobody_can_write(patch: pytest.MonkeyPatch) -> None:
    def prove(self: Watch, suspects: list[Any]) -> None:
        for seen in suspects:
            seen.silent = seen.unmoved

    def has_ended(study: optuna.Study, trial: FrozenTrial) -> bool:
        return private.read(study, trial).state != TrialState.RUNNING

    patch.setattr(Watch, "_prove", prove)
    patch.setattr(recovery, "_has_moved", has_ended)


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def writing(self: Fence) -> Iterator[None]:
        yield

    patch.setattr(Fence, "writing", writing)


def _idle_workers_leave_and_frozen_ones_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "_is_more_to_come", lambda self: False)
    patch.setattr(Pool, "_end_stopped", lambda self: None)
    patch.setattr(SimulatedSystem, "kill", lambda self, process: False)


def _deaths_add_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "ended_trials", lambda self: 0)


def _a_death_counts_six_times(patch: pytest.MonkeyPatch) -> None:
    deaths = recovery._deaths

    def many(*arguments: Any) -> dict[str, Any]:
        found = deaths(*arguments)
        return {**found, "alone": 6 * found["alone"]}

    patch.setattr(recovery, "_deaths", many)


def _pictures_come_before_the_result(patch: pytest.MonkeyPatch) -> None:
    def complete(self: Worker, trial: optuna.Trial, job: Any, values: Any) -> None:
        self._ports.announce(trial, job)()
        self._end(trial, job, TrialState.COMPLETE, values)

    patch.setattr(Worker, "_complete", complete)


def _a_retry_takes_budget_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(counts, "history_of", lambda trial: ())


def _a_retry_keeps_the_reason(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_OF_ONE_TRIAL", recovery._OF_ONE_TRIAL - {"reason"})
    tell = Worker._tell

    def without_clearing(self: Worker, trial: Any, state: Any, values: Any, given: Any) -> None:
        tell(self, trial, state, values, {k: v for k, v in given.items() if v is not None})

    patch.setattr(Worker, "_tell", without_clearing)


def _what_waits_is_claimed_by_anybody(patch: pytest.MonkeyPatch) -> None:
    going_on = Claims._going_on
    patch.setattr(Claims, "_can_train", lambda self, trial: True)
    patch.setattr(
        Claims, "_going_on", lambda self, trial: replace(going_on(self, trial), overrides=None)
    )


def _a_report_counts_before_it_is_made(patch: pytest.MonkeyPatch) -> None:
    def report(self: Reporting, trial: optuna.Trial, epoch: int, values: Any) -> bool:
        known = self._judged_epochs(trial)
        if epoch in known:
            return False
        known.add(epoch)
        return self._report_one(trial, epoch, values)

    patch.setattr(Reporting, "report", report)


def _rungs_count_the_dead(patch: pytest.MonkeyPatch) -> None:
    def prune(self: CountedPruner, study: optuna.Study, trial: FrozenTrial) -> bool:
        return self.pruner.prune(study, trial)

    patch.setattr(CountedPruner, "prune", prune)


def _process_numbers_mean_the_same_everywhere(patch: pytest.MonkeyPatch) -> None:
    def is_gone(process: Any, here: Any, born: Callable[[int], str | None]) -> bool:
        if any(process.get(key) != here[key] for key in ("host", "machine")):
            return False
        return bool(process["boot"] != here["boot"] or born(process["pid"]) != process["born"])

    patch.setattr(world, "is_known_gone", is_gone)


def _ends_are_sorted_by_local_times(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        results, "_end_of", lambda trial: (trial.datetime_complete or datetime.max, trial.number)
    )


def _not_a_number_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(execution, "_numbers", lambda values, count: tuple(values))


def _a_locked_record_is_an_error(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(simulated_storage, "RECORD_IS_LOCKED", UserError)


def _nobody_is_superseded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "_is_superseded", lambda self, claim: False)


def _workers_compare_clocks(patch: pytest.MonkeyPatch) -> None:
    def is_over_time(self: Stopping) -> bool:
        deadline = self._plan.deadline
        return deadline is not None and self._system.utc() >= deadline

    patch.setattr(Stopping, "_is_over_time", is_over_time)


def _confirmations_take_budget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(counts, "is_confirmation", lambda trial: False)


def _the_lease_goes_first(patch: pytest.MonkeyPatch) -> None:
    requeue = private.requeue

    def in_two_steps(study: optuna.Study, trial: FrozenTrial) -> None:
        private.set_attribute(study, trial, LEASE, None)
        requeue(study, trial)

    patch.setattr(private, "requeue", in_two_steps)


def _a_start_must_not_fail(patch: pytest.MonkeyPatch) -> None:
    def started(self: Pool, indices: Any) -> list[Any]:
        self._running.update({index: self._start(index) for index in indices})
        return []

    patch.setattr(Pool, "_started", started)


def _nobody_waits_at_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(programs, "retry", lambda call, *rest: call())


MUTATIONS = {
    1: Mutation(
        "a reboot strands trials", _nobody_waits_for_the_bound, ("kill_all", "gone", "reboot")
    ),
    2: Mutation(
        "live trials are declared dead", _silence_counts_while_nobody_can_write, ("locked",)
    ),
    3: Mutation(
        "a woken worker writes on", _no_fence, ("freeze_machine", "freeze_writer", "second_command")
    ),
    4: Mutation(
        "a frozen worker hangs the sweep",
        _idle_workers_leave_and_frozen_ones_stay,
        ("freeze_worker",),
    ),
    5: Mutation("deaths add up", _deaths_add_up, ("kill_workers",)),
    26: Mutation("a death counts six times", _a_death_counts_six_times, ("kill_worker",)),
    6: Mutation("a picture costs the trial", _pictures_come_before_the_result, ("pictures",)),
    8: Mutation(
        "a retry spends budget twice", _a_retry_takes_budget_again, ("retry_failed", "kill_worker")
    ),
    80: Mutation("a success keeps the old reason", _a_retry_keeps_the_reason, ("kill_worker",)),
    10: Mutation(
        "a command claims what it does not know",
        _what_waits_is_claimed_by_anybody,
        ("other_space", "kill_worker", "interrupt"),
        {"space": "two"},
    ),
    11: Mutation("a report is lost", _a_report_counts_before_it_is_made, ("deaf", "away")),
    12: Mutation("rungs count the dead", _rungs_count_the_dead, ("kill_worker",)),
    13: Mutation(
        "a process of another container is gone",
        _process_numbers_mean_the_same_everywhere,
        ("second_command",),
    ),
    14: Mutation(
        "local times end a search",
        _ends_are_sorted_by_local_times,
        ("second_command", "clock"),
        {"space": "search", "patience": 2, "objectives": 1},
    ),
    17: Mutation("an objective is no number", _not_a_number_is_told, ("clock",)),
    18: Mutation(
        "a locked record fails a trial",
        _a_locked_record_is_an_error,
        ("freeze_writer", "freeze_machine", "kill_command", "second_command"),
    ),
    19: Mutation(
        "two take the last of the budget",
        _nobody_is_superseded,
        ("lock_lost", "second_command", "slow"),
    ),
    20: Mutation(
        "machines' clocks end a search",
        _workers_compare_clocks,
        ("second_command", "clock"),
        {"timeout": 0.8},
    ),
    21: Mutation(
        "confirmations take the budget",
        _confirmations_take_budget,
        ("larger_budget",),
        {"confirm": 2, "space": "search"},
    ),
    22: Mutation("a stopped trial runs on", _the_lease_goes_first, ("interrupt_twice", "deaf")),
    23: Mutation("a worker that cannot be started", _a_start_must_not_fail, ("bad_start",)),
    24: Mutation(
        "the storage is away when a command begins", _nobody_waits_at_first, ("away_at_edges",)
    ),
    25: Mutation(
        "a report of several objectives is lost",
        _a_report_counts_before_it_is_made,
        ("deaf", "away"),
        {"objectives": 2},
    ),
}
"""By a number: up to 17 as these faults were found first, before there was a simulation."""


def schedules_until_found(mutation: Mutation, most: int) -> int | None:
    """How many schedules show that a repair is missing; None if `most` do not.

    The last of them breaks no promise with the repair.
    """
    with pytest.MonkeyPatch.context() as patch:
        mutation.take_away(patch)
        faulty = (seed for seed in range(most) if simulate_for(mutation, seed).faults)
        found = next(faulty, None)
    if found is None:
        return None
    assert not simulate_for(mutation, found).faults, "it is not the repair that was missing"
    return found + 1


def simulate_for(mutation: Mutation, seed: int) -> Result:
    """A schedule in which the fault can show."""
    return simulate(seed, kinds=mutation.kinds, **mutation.drawn)
