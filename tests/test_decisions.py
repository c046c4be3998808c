"""The engine of every comparison: against SciPy, closed forms and simulated trainings."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from decisions import (
    Pair,
    adjusted_means,
    all_pairs,
    best_of,
    between_best,
    decide,
    intervals,
    judged_by_other_seeds,
    looks,
    nominal_levels,
    pair,
    seeds_needed,
    seeds_to_plan,
    spent,
    welch,
)
from decisions.sequential import Array

MARGIN = 0.1


def scores(
    *leads: float, seeds: int = 5, own: float = 0.06, shared: float = 0.08, of: int = 0
) -> Array:
    """Of levels around 20 dB with these leads: seeds shift all of them, and each for itself."""
    random = np.random.default_rng(of)
    common = shared * random.normal(size=seeds)
    return 20 + np.array(leads)[:, None] + common + own * random.normal(size=(len(leads), seeds))


def test_looks_come_after_every_seed_up_to_the_plan_and_then_ever_more_rarely() -> None:
    assert looks(5, 20) == [2, 3, 4, 5, 8, 12, 18]
    assert looks(2, 9) == [2, 3, 5, 8], "a plan of two is one of three"
    assert looks(None, 20) == [3, 5, 8, 12, 18]


@pytest.mark.parametrize("planned", [None, 2, 3, 5, 8, 30])
def test_the_error_is_spent_once_and_never_whole(planned: int | None) -> None:
    shares = [spent(n, planned) for n in looks(planned, 500)]
    assert shares == sorted(shares)
    assert 0.84 < shares[-1] < 0.94
    if planned is not None:
        assert spent(max(planned, 3), planned) == 0.84


@pytest.mark.parametrize("planned", [None, 3, 5, 8])
def test_levels_of_a_normal_walk_err_as_often_as_is_spent(planned: int | None) -> None:
    found = nominal_levels(0.2, planned, 18)
    walks = np.random.default_rng(0).normal(size=(200_000, 18)).cumsum(axis=1)
    z = np.abs(walks) / np.sqrt(np.arange(1, 19))
    with np.errstate(divide="ignore"):
        stopped = np.cumsum(z > stats.norm.isf(found[1:] / 2), axis=1) > 0
    for n in looks(planned, 18):
        expected = 0.2 * spent(n, planned)
        assert stopped[:, n - 1].mean() == pytest.approx(expected, abs=0.003)


def test_the_planned_look_is_students_interval_of_the_differences() -> None:
    a, b = scores(0.3, 0.0)
    level = nominal_levels(0.05, 5, 5)[5]
    expected = stats.ttest_rel(a, b).confidence_interval(1 - level)
    mean, low, high = intervals(a - b, nominal_levels(0.05, 5, 5))
    assert float(mean) == pytest.approx((a - b).mean())
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high))


def test_seeds_between_two_looks_move_the_mean_and_decide_nothing() -> None:
    a, b = scores(0.05, 0.0, seeds=7)
    at_five = intervals((a - b)[:5], nominal_levels(0.05, 5, 7))
    at_seven = intervals(a - b, nominal_levels(0.05, 5, 7))
    assert at_seven[0] == pytest.approx((a - b).mean())
    assert at_seven[1:] == pytest.approx(at_five[1:])


def test_what_was_found_stays_found_unless_later_seeds_contradict_it() -> None:
    lead = np.array([1.0, 1.1, 0.9, 1.0, 1.05])
    noisy = np.array([1.0, -0.9, 1.5])
    assert intervals(np.r_[lead, noisy], nominal_levels(0.05, 5, 8))[1] > 0
    contrary = np.full(3, -9.0)
    mean, low, _ = intervals(np.r_[lead, contrary], nominal_levels(0.05, 5, 8))
    assert low <= mean < 0


def test_a_missing_seed_is_no_look() -> None:
    a, b = scores(0.4, 0.0, seeds=6)
    differences = a - b
    gapped = differences.copy()
    gapped[2] = np.nan
    found = intervals(gapped, nominal_levels(0.05, 5, 6))
    expected = intervals(np.delete(differences, 2), nominal_levels(0.05, 5, 6))
    assert np.array(found) == pytest.approx(np.array(expected))


def test_equal_differences_without_spread_are_judged_by_their_number() -> None:
    three, nine = (intervals(np.full(n, 3.0), nominal_levels(0.05, n, n)) for n in (3, 9))
    assert np.array(three) == pytest.approx([3.0, -np.inf, np.inf])
    assert np.array(nine) == pytest.approx([3.0, 3.0, 3.0])


def test_without_shared_seeds_the_interval_is_welchs() -> None:
    (a,), (b,) = scores(0.3, of=1), scores(0.0, of=2, seeds=6)
    level = nominal_levels(0.05, 5, 6)[5]
    expected = stats.ttest_ind(a, b[:5], equal_var=False).confidence_interval(1 - level)
    assert welch(a, b, nominal_levels(0.05, 5, 6)) == pytest.approx(
        (a.mean() - b.mean(), expected.low, expected.high)
    )
    apart = np.full((2, 11), np.nan)
    apart[0, :5], apart[1, 5:] = a, b
    assert not pair(apart[0], apart[1], 5, 0.05).paired


def test_the_best_is_named_with_what_it_is_better_by() -> None:
    decision = decide(scores(0.5, 0.0, -0.4), MARGIN, 5)
    assert decision is not None
    assert (decision.leader, decision.is_best, decision.confidence) == (0, True, 0.95)
    assert [rival.level for rival in decision.rivals] == [1, 2]
    assert decision.rivals[0].pair.difference == pytest.approx(0.5, abs=0.1)
    assert not decision.open


def test_without_a_best_one_the_worst_is_still_left_out() -> None:
    decision = decide(scores(0.0, 0.02, -1.0, own=0.1), MARGIN, 5)
    assert decision is not None
    assert not decision.is_best
    assert decision.confidence == pytest.approx(0.95), "two are left, and so one pair"
    worse = {rival.level for rival in decision.rivals if rival.is_worse}
    assert worse == {2}
    assert {rival.level for rival in decision.open} | {decision.leader} == {0, 1}


def test_what_is_left_when_some_are_out_has_fewer_pairs() -> None:
    decision = decide(scores(0.0, 0.01, 0.02, -1.0, -1.2, own=0.1), MARGIN, 5)
    assert decision is not None
    assert {rival.level for rival in decision.rivals if rival.is_worse} == {3, 4}
    assert decision.confidence == pytest.approx(1 - 0.05 / 3)
    none = decide(scores(0.0, 0.01, 0.02, -0.01, 0.03, own=0.1), MARGIN, 5)
    assert none is not None
    assert none.confidence == pytest.approx(1 - 0.05 / 10)


def test_twins_are_practically_equal_and_may_be_told_apart_all_the_same() -> None:
    tie = decide(scores(0.0, 0.0, own=0.01), MARGIN, 5)
    assert tie is not None
    assert [rival.is_equal for rival in tie.rivals] == [True]
    sure = decide(scores(0.05, 0.0, own=0.005), MARGIN, 5)
    assert sure is not None
    assert sure.is_best
    assert [rival.is_equal for rival in sure.rivals] == [True]


def test_one_seed_decides_nothing_and_none_is_no_level() -> None:
    one = decide(scores(1.0, 0.0, seeds=1), MARGIN, 5)
    assert one is not None
    assert [rival.seeds_needed for rival in one.open] == [5]
    table = scores(1.0, 0.0, 0.5)
    table[0] = np.nan
    left = decide(table, MARGIN, 5)
    assert left is not None
    assert (left.leader, [rival.level for rival in left.rivals]) == (2, [1])
    assert decide(np.full((2, 3), np.nan), MARGIN, 5) is None


@pytest.mark.parametrize(
    ("table", "margin", "message"),
    [
        (np.zeros(3), 0.1, "scores must be"),
        (np.array([[np.inf, 1.0]]), 0.1, "finite"),
        (np.zeros((2, 2)), -0.1, "`margin` must be 0 or more, but got -0.1"),
    ],
)
def test_what_is_no_comparison_is_refused(table: Array, margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide(table, margin, 5)


def test_a_level_that_lacks_seeds_is_not_better_by_having_had_the_easy_ones() -> None:
    table = scores(0.0, 0.2, seeds=6, own=0.0, shared=1.0)
    easy = np.argsort(table[0])[3:]
    short = table.copy()
    short[0, np.setdiff1d(np.arange(6), easy)] = np.nan
    assert np.nanmean(short[0]) > short[1].mean()
    means = adjusted_means(short)
    assert means[1] - means[0] == pytest.approx(0.2)
    assert adjusted_means(table) == pytest.approx(table.mean(axis=1))


def test_the_table_of_pairs_agrees_with_the_decision() -> None:
    for of in range(40):
        table = scores(0.0, 0.06, 0.12, -0.3, of=of)
        decision, pairs = decide(table, MARGIN, 5), all_pairs(table, 5)
        assert decision is not None
        for rival in decision.rivals:
            i, j = sorted((decision.leader, rival.level))
            told = pairs[i, j]
            assert rival.is_worse or not told.is_sure, "told apart there, and open here"
            assert told.is_within(MARGIN) == rival.is_equal
            assert told.reversed().difference == -told.difference


def test_the_seeds_that_would_settle_it_do() -> None:
    a, b = scores(0.12, 0.0, own=0.12)
    found = pair(a, b, 5, 0.05)
    needed = seeds_needed(found, MARGIN, 5, 0.05, 0.05)
    assert needed in looks(5, 62)
    level = nominal_levels(0.05, 5, 62)[needed]
    half = stats.t.isf(level / 2, needed - 1) * found.deviation / np.sqrt(needed)
    assert half < abs(found.difference)
    hopeless = replace(found, difference=MARGIN, deviation=3.0)
    assert seeds_needed(hopeless, MARGIN, 5, 0.05, 0.05) is None


@pytest.mark.parametrize(("lead", "count"), [(0.12, 3), (0.3, 4), (0.0, 2)])
def test_a_new_plan_decides_in_four_of_five_cases(lead: float, count: int) -> None:
    own = 0.12 if lead else 0.04
    alpha = 0.05 / (count * (count - 1) / 2)
    seen = replace(twins(), difference=lead, deviation=2**0.5 * own)
    needed = seeds_to_plan(seen, MARGIN, alpha, 0.05)
    assert needed is not None
    decided = []
    for of in range(400):
        a, b = scores(lead, 0.0, own=own, seeds=needed, of=of)
        found = pair(a, b, needed, alpha, equal_alpha=0.05)
        decided.append(found.low > 0 if lead else found.is_within(MARGIN))
    assert 0.74 < np.mean(decided) < 0.93


def twins() -> Pair:
    a, b = scores(0.0, 0.0)
    return pair(a, b, 5, 0.05)


def test_a_new_plan_needs_fewer_seeds_than_looks_that_have_spent_the_error() -> None:
    found = replace(twins(), difference=0.1, deviation=0.12)
    added, fresh = seeds_needed(found, 0.0, 5, 0.05, 0.05), seeds_to_plan(found, 0.0, 0.05, 0.05)
    assert added is not None
    assert fresh is not None
    assert fresh < added


def test_a_configuration_is_judged_by_the_seeds_that_did_not_choose_it() -> None:
    table = np.array([[1.0, 9.0, 1.0], [5.0, 2.0, 5.0]])
    # Without seed 1 the second is best (5, 5); without seed 0 the first (9, 1); so with seed 2.
    assert judged_by_other_seeds(table) == pytest.approx([1.0, 2.0, 1.0])
    noise = np.random.default_rng(0).normal(size=(4000, 8, 3))
    chosen = np.array([judged_by_other_seeds(one).mean() for one in noise])
    flattered = noise.mean(axis=2).max(axis=1)
    assert abs(chosen.mean()) < 0.03
    assert flattered.mean() > 0.7


def test_of_more_configurations_counts_what_the_best_of_as_many_would_reach() -> None:
    ranked = np.array([4.0, 3.0, 2.0, 1.0])
    expected = np.mean([max(ranked[list(two)]) for two in combinations(range(4), 2)])
    assert best_of(4, 2) @ ranked == pytest.approx(expected)
    assert best_of(4, 4) == pytest.approx([1, 0, 0, 0])


def simulated(trials: int, seeds: int, spread: tuple[float, ...]) -> Array:
    random = np.random.default_rng(1)
    common = random.normal(size=(trials, 1, seeds))
    own = random.normal(size=(trials, len(spread), seeds))
    return np.asarray(np.array(spread)[:, None] * (0.6**0.5 * common + 0.4**0.5 * own))


@pytest.mark.slow
@pytest.mark.parametrize("spread", [(0.1, 0.1), (0.1, 1.0), (0.1, 0.1, 0.1, 0.1)])
def test_a_tie_has_a_winner_in_one_of_twenty_however_often_one_looks(
    spread: tuple[float, ...],
) -> None:
    sweeps = simulated(1500, 12, spread)
    wrong = [any(is_best(one[:, :n]) for n in looks(5, 12)) for one in sweeps]
    assert np.mean(wrong) < 0.065  # 0.05, and three standard errors of 1,500


@pytest.mark.slow
@pytest.mark.parametrize(("count", "seeds"), [(4, 8), (12, 5)])
def test_of_equals_hardly_ever_one_is_called_worse(count: int, seeds: int) -> None:
    wrong = []
    for table in simulated(1500, seeds, (0.1,) * count):
        decision = decide(table, 0.0, seeds)
        assert decision is not None
        wrong.append(any(rival.is_worse for rival in decision.rivals))
    assert np.mean(wrong) < 0.065  # as above


def is_best(table: Array) -> bool:
    decision = decide(table, 0.0, 5)
    assert decision is not None
    return decision.is_best


def test_the_best_of_several_configurations_must_beat_all_of_the_rivals() -> None:
    a, b = scores(0.5, 0.45, seeds=6), scores(0.0, -0.1, -0.2, seeds=6, of=1)
    found = between_best(a, b, 6, 0.05)
    ends = [pair(a[0], row, 6, 0.05 / 2) for row in b]
    assert found.low == min(end.low for end in ends)
    back = [pair(b[0], row, 6, 0.05 / 3) for row in a]
    assert found.high == -min(end.low for end in back)
    alone = between_best(a[:1], b[:1], 6, 0.05)
    assert alone == pair(a[0], b[0], 6, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 8])
def test_seeds_that_choose_and_judge_name_no_winner_of_equals(seeds: int) -> None:
    random = np.random.default_rng(0)
    wrong = []
    for _ in range(800):
        among = [0.06 * random.normal(size=(count, seeds)) for count in (4, 8)]
        gains = np.array([judged_by_other_seeds(table, 4) for table in among])
        decision = decide(gains, 0.0, seeds, among=among)
        assert decision is not None
        wrong.append(decision.is_best)
    assert np.mean(wrong) < 0.05


def test_levels_that_no_seed_links_have_their_plain_means() -> None:
    apart = np.full((2, 6), np.nan)
    apart[0, :3], apart[1, 3:] = 10.0, 12.0
    assert adjusted_means(apart) == pytest.approx([10.0, 12.0])


def test_twins_need_as_many_seeds_as_decide_about_them() -> None:
    table = np.tile(scores(0.0, seeds=12), (2, 1))
    found = decide(table[:, :3], MARGIN, 3)
    assert found is not None
    (needed,) = (rival.seeds_needed for rival in found.open)
    assert needed is not None
    after = decide(np.tile(scores(0.0, seeds=needed), (2, 1)), MARGIN, 3)
    assert after is not None
    assert after.equal
