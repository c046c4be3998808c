"""A waiting trial that a storage gives to several workers is had by one of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from greenlet import greenlet
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from sweeps.storage import proxy
from sweeps.storage.proxy import begin_anew, is_won


class Stepwise(InMemoryStorage):
    """A storage before each of whose operations somebody else may be faster."""

    pause: Callable[[], Any] = staticmethod(lambda: None)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.pause()
        super().set_trial_system_attr(trial_id, key, value)

    def get_trial(self, trial_id: int) -> optuna.trial.FrozenTrial:
        self.pause()
        return super().get_trial(trial_id)


def contested(workers: int, seed: int, *, dies: bool = False) -> list[bool | None]:
    """What each worker was told, in a drawn order of their operations; None of the dead."""
    storage, draw = Stepwise(), random.Random(seed)
    study = optuna.create_study(storage=storage)
    trial_id = study.ask()._trial_id
    hub, ticks = greenlet.getcurrent(), itertools.count()

    def worker() -> bool:
        return is_won(
            storage, trial_id, clock=lambda: float(next(ticks)) / 100, sleep=lambda _: hub.switch()
        )

    storage.pause = hub.switch
    contenders = [greenlet(worker) for _ in range(workers)]
    told: list[bool | None] = [None] * workers
    alive = list(range(workers))
    while alive:
        turn = draw.choice(alive)
        result = contenders[turn].switch()
        if contenders[turn].dead:
            told[turn] = result
            alive.remove(turn)
        elif dies and draw.random() < 0.1:
            alive.remove(turn)
    return told


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_one_of_all_has_the_trial_in_every_order(workers: int) -> None:
    for seed in range(400):
        assert contested(workers, seed).count(True) == 1, seed


def test_never_two_also_where_some_die_on_the_way() -> None:
    counts = [contested(4, seed, dies=True).count(True) for seed in range(400)]
    assert max(counts) == 1
    assert 0 in counts, "a dead one can leave the trial without an owner, to be taken over"


def test_looking_before_saying_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the orders that are drawn would show a mistake."""

    def hasty(storage: Any, trial_id: int, **_: Any) -> bool:
        if proxy._said(storage, trial_id):
            return False
        storage.set_trial_system_attr(trial_id, f"claim {trial_id} {random.random()}", "owns")
        return True

    monkeypatch.setitem(globals(), "is_won", hasty)
    assert max(contested(2, seed).count(True) for seed in range(50)) == 2


def test_a_trial_that_waits_again_has_a_new_owner_and_so_has_its_clone() -> None:
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage)
    trial_id = study.ask()._trial_id
    assert is_won(storage, trial_id)
    assert not is_won(storage, trial_id)
    begin_anew(storage, trial_id)
    assert is_won(storage, trial_id)
    frozen = storage.get_trial(trial_id)
    study.add_trial(
        optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=frozen.system_attrs)
    )
    assert is_won(storage, study.trials[-1]._trial_id)
