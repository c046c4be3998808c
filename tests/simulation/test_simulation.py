"""Many bad days: no promise is broken, and each repair that is taken away is missed."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, schedules_until_found
from tests.simulation.schedule import simulate


def test_a_seed_is_one_history() -> None:
    first, second = simulate(7, log=True), simulate(7, log=True)
    assert first.log == second.log
    assert len(first.log) > 3


def test_two_hundred_bad_days() -> None:
    for seed in range(200):
        result = simulate(seed)
        assert not result.faults, str(result)


@pytest.mark.slow
def test_three_thousand_bad_days() -> None:
    for seed in range(200, 3000):
        result = simulate(seed)
        assert not result.faults, str(result)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=[m.fault for m in MUTATIONS.values()])
def test_a_protocol_without_one_of_its_repairs_is_caught(mutation: Mutation) -> None:
    schedules = schedules_until_found(mutation, 500)
    assert schedules is not None, f"500 schedules do not show that {mutation.fault}"
    print(f"{mutation.fault}: found after {schedules} schedules")
