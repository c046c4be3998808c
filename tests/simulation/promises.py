"""What a sweep promises, checked: when a command has ended, and when all is over."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import permutations

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.errors import UserError
from sweeps import bounds
from sweeps.contest import confirming
from sweeps.space.grid import Grid
from sweeps.space.points import point_name
from sweeps.storage import private
from sweeps.storage.attributes import (
    DEATHS,
    ENDED,
    POINT,
    REASON,
    REPORTS,
    SAME_AS,
    budgeted,
    counted,
    is_confirmation,
    level_of,
    point_of,
    session_of,
)
from sweeps.storage.retry import is_away
from tests.simulation.programs import Command, Day, Order, Setting, plan_of
from tests.simulation.world import SimulatedSystem

Ends = list[tuple[float, int]]
"""When which trials ended, by the world's clock."""


def judge(day: Day, command: Command, trials: list[FrozenTrial], ends: Ends) -> None:
    """Whether a command ended with a reason."""
    error = command.process.error
    if command.process.exitcode == 0:
        _judge_end(day, command, trials, ends)
    if error is None or command.process.exitcode == -9 or is_away(error):
        pass
    elif isinstance(error, KeyboardInterrupt):
        _judge_interrupted(day, command, trials)
    elif isinstance(error, UserError):
        ended = {t._trial_id for t in counted(trials) if t.state.is_finished()}
        last = max([moment for moment, trial_id in ends if trial_id in ended], default=0.0)
        in_a_row = sum(moment > last for moment in command.deaths)
        if "live" in str(error) and in_a_row <= bounds.DEATHS_IN_A_ROW * day.setting.workers:
            day.broken(f"a command gave up after {in_a_row} deaths in a row")
    else:
        day.broken(f"a command broke: {error!r}")
    for worker in command.workers:
        broke = worker.error
        is_excused = isinstance(broke, OSError) and "picture" not in str(broke)
        if broke is not None and not is_away(broke) and not is_excused:
            day.broken(f"{worker.name} broke: {broke!r}")


def _judge_end(day: Day, command: Command, trials: list[FrozenTrial], ends: Ends) -> None:
    """Whether a command that ended well had a reason to leave some of the budget."""
    setting = _wanted(day.setting, command.order)
    if len(budgeted(trials)) >= setting.budget or day.world.now >= command.ends_at:
        return
    ends = sorted(ends)
    if not any(_is_stopped(setting, trials, ends[:n]) for n in range(1, len(ends) + 1)):
        day.broken("a command ended although there was something to do")


def _judge_interrupted(day: Day, command: Command, trials: list[FrozenTrial]) -> None:
    """Whether an interrupted command left nothing running, where it could."""
    if not command.interrupts:
        day.broken("a command ended as if it were interrupted")
        return
    since = command.interrupts[0]
    could_not = day.server.writable(since) < day.world.now - since or len(command.interrupts) > 2
    if could_not or command.process.thaws > since:
        return
    for trial in trials:
        if trial.state == TrialState.RUNNING and session_of(trial) in (command.session, ""):
            day.broken(f"trial {trial.number} runs after its command was interrupted")


def check(day: Day, order: Order, trials: list[FrozenTrial], ends: Ends) -> None:
    """The promises, when all is over.

    Args:
        day: that is over.
        order: of the last command, which had the largest space and budget of all.
        trials: of the study.
        ends: of them.
    """
    setting = _wanted(day.setting, order)
    for trial in trials:
        if not trial.state.is_finished():
            day.broken(f"trial {trial.number} stays {trial.state.name}")
    units = budgeted(trials)
    if len(units) > setting.budget:
        day.broken(f"{len(units)} of {setting.budget} units of the budget were trained")
    if len(units) < setting.budget and not _is_stopped(setting, trials, ends):
        day.broken(f"{len(units)} of {setting.budget} units of the budget were trained")
    points = [t.user_attrs[POINT] for t in units if POINT in t.user_attrs]
    if setting.space.is_finite and len(set(points)) != len(points):
        day.broken("a grid point was trained twice")
    if setting.grid and set(points) != {point_name(*point) for point in Grid(setting.space)}:
        day.broken("a grid point was not trained")
    for trial in counted(trials):
        if SAME_AS not in trial.user_attrs:
            _check_unit(day, trial)
    if setting.promotes and setting.settings.timeout is None:
        _check_levels(day, units)
    _check_order(day, trials, ends)
    _check_confirmations(day, order, trials)
    _check_records(day, trials)


def _check_levels(day: Day, units: list[FrozenTrial]) -> None:
    """Of each level that can be trained somebody is trained to the end."""
    states: dict[str, set[TrialState]] = {}
    for trial in units:
        states.setdefault(level_of(trial, day.setting.compare), set()).add(trial.state)
    for level, found in states.items():
        if TrialState.PRUNED in found and TrialState.COMPLETE not in found:
            day.broken(f"nobody of {level or 'all'} was trained to the end")


def _wanted(setting: Setting, order: Order) -> Setting:
    return replace(setting, settings=order.settings, space=order.space)


def _check_confirmations(day: Day, order: Order, trials: list[FrozenTrial]) -> None:
    system = SimulatedSystem(day.world.fate)
    plan = plan_of(day, "check", system, order.settings, order.space, None)
    study = optuna.load_study(study_name="study", storage=day.server.memory)
    found = confirming.standing(study, plan) if plan.settings.confirm else None
    if found is not None and not found.is_over:
        day.broken("a confirmation was not trained")
    names = Counter(point_of(t) for t in counted(trials) if is_confirmation(t))
    if any(number > 1 for number in names.values()):
        day.broken("a confirmation was trained twice")


def _check_records(day: Day, trials: list[FrozenTrial]) -> None:
    for directory, record in day.disk.records.items():
        for fault in record.faults:
            day.broken(f"{directory}: {fault}")
        if record.finished > 1:
            day.broken(f"{directory}: was trained to its end {record.finished} times")
        if record.status == "completed" and not any(map(math.isnan, record.values)):
            number = int(directory.removeprefix("vae-"))
            chain = [t for t in trials if private.first_of(t) == number]
            if not any(t.values == list(record.values) for t in chain):
                day.broken(f"{directory}: its result was lost")


def _is_stopped(setting: Setting, trials: list[FrozenTrial], ends: Ends) -> bool:
    """Whether the last trials brought nothing better.

    They are taken in the order in which they truly ended, or in the protocol's own, which may
    differ for those that ended at the same time.
    """
    patience = setting.settings.stop_after_no_improvement
    if patience is None:
        return False
    order = {trial_id: moment for moment, trial_id in ends}
    ended = [t for t in budgeted(trials) if t._trial_id in order]
    ended = [t for t in ended if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    truly = sorted(ended, key=lambda t: order[t._trial_id])
    placed = sorted(truly, key=lambda t: (t.user_attrs[ENDED], t.number))
    return max(_since(truly), _since(placed)) >= patience


def _since(trials: list[FrozenTrial]) -> int:
    """How many trials there are since the last that was better than those before."""
    since = 0
    best: list[list[float]] = []
    for trial in trials:
        since += 1
        if trial.state == TrialState.COMPLETE and not any(_covers(v, trial.values) for v in best):
            since = 0
            best.append(trial.values)
    return since


def _check_order(day: Day, trials: list[FrozenTrial], ends: Ends) -> None:
    """Trials that did not end at about the same time have their places in the order of time."""
    told = (TrialState.COMPLETE, TrialState.PRUNED)  # by who trained them
    placed = {t._trial_id: t for t in trials if t.state in told and ENDED in t.user_attrs}
    times = {trial_id: moment for moment, trial_id in ends if trial_id in placed}
    for one, other in permutations(times, 2):
        is_earlier = times[one] + bounds.LEASE_TIMEOUT + bounds.RETRY_WINDOW < times[other]
        if is_earlier and placed[one].user_attrs[ENDED] >= placed[other].user_attrs[ENDED]:
            day.broken(f"trial {placed[other].number} ended last, but is not placed so")


def _covers(one: list[float], other: list[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))


def _may_lack_lock(day: Day) -> bool:
    """Whether two may have written about one trial at once."""
    return not day.setting.has_common_lock or any(lock.flaky_until for lock in day.locks.values())


def _check_unit(day: Day, trial: FrozenTrial) -> None:
    setting, number = day.setting, trial.number
    behaviour = setting.behaviour(trial.user_attrs.get("overrides", ()))
    reason = str(trial.user_attrs.get(REASON))
    if trial.state == TrialState.FAIL:
        excused = {
            "fail": "asked to fail" in reason,
            "nan": "must be a number" in reason,
        }.get(behaviour, False)
        deaths = trial.user_attrs.get(DEATHS, {"alone": 0, "together": 0})
        chain = [*private.history_of(trial), number]
        lost = deaths["alone"] > setting.settings.max_retries < len(chain)
        lost |= deaths["together"] > bounds.DEATHS_TOGETHER
        if not excused and not ("its worker died" in reason and lost):
            day.broken(f"trial {number} failed without need: {reason}")
    if trial.state == TrialState.COMPLETE:
        if reason != "None" and not (reason.startswith("its worker died") and _may_lack_lock(day)):
            day.broken(f"trial {number} is complete, with the reason {reason}")
        reported = {*trial.intermediate_values, *map(int, trial.user_attrs.get(REPORTS, ()))}
        if reported != set(range(1, setting.epochs + 1)):
            day.broken(f"trial {number} lacks reports: {reported}")
        record = day.disk.record(f"vae-{private.first_of(trial)}")
        is_spared = len(record.writers) > 1 or is_confirmation(trial) or setting.promotes
        is_spared |= len(trial.values) > 1
        if behaviour in ("fail", "nan") or (behaviour == "bad" and not is_spared):
            day.broken(f"trial {number} is complete, which should {behaviour}")
