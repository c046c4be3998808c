"""A race tells candidates apart where it may, and is wrong as seldom as it says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sweeps.search.race import ALPHA, Verdict, race, share

RACES = 700
NAN, INF = np.nan, np.inf


def drawn(
    generator: np.random.Generator, candidates: int, seeds: int, *, lead: float, objectives: int = 1
) -> NDArray[np.float64]:
    """Losses of which the first candidate's are lower, by `lead` standard deviations.

    These are of the differences; what all candidates have in common, seed by seed, is ten times
    as large.
    """
    own = generator.normal(size=(candidates, objectives, seeds))
    common = 10 * generator.normal(size=(1, objectives, seeds))
    losses: NDArray[np.float64] = own + common
    losses[0] -= lead * np.sqrt(2)
    return losses


def verdicts(candidates: int, seeds: int, lead: float, objectives: int = 1) -> list[Verdict]:
    generator = np.random.default_rng(0)
    shape = {"lead": lead, "objectives": objectives}
    return [race(drawn(generator, candidates, seeds, **shape)) for _ in range(RACES)]  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("candidates", "objectives"), [(2, 1), (3, 1), (3, 2)])
def test_equals_are_told_apart_as_seldom_as_promised_over_all_looks(
    candidates: int, objectives: int
) -> None:
    found = verdicts(candidates, 10, 0.0, objectives)
    wrong = sum(not verdict.kept.all() for verdict in found) / RACES
    assert wrong <= ALPHA
    undecided = sum(verdict.racing.all() and verdict.seeds == 10 for verdict in found) / RACES
    assert undecided >= 1 - ALPHA, "a tie is undecided"


def test_the_best_of_many_looks_without_this_control_would_be_wrong_far_more_often() -> None:
    """What the spending is for: naive tests at 5% at each of nine looks."""
    generator = np.random.default_rng(0)
    leads = generator.normal(size=(RACES, 10))
    looks = [stats.ttest_1samp(leads[:, :n], 0, axis=1).pvalue for n in range(2, 11)]
    assert np.mean(np.min(looks, axis=0) < ALPHA) > 3 * ALPHA


@pytest.mark.parametrize(("candidates", "lead", "seeds"), [(2, 2.5, 6), (3, 3.0, 8)])
def test_a_planted_winner_is_found(candidates: int, lead: float, seeds: int) -> None:
    found = verdicts(candidates, seeds, lead)
    won = [v for v in found if v.kept.tolist() == [True] + [False] * (candidates - 1)]
    assert len(won) / RACES > 0.85
    assert sum(not verdict.kept[0] for verdict in found) / RACES <= ALPHA
    assert all(not verdict.racing.any() for verdict in won)
    assert np.mean([verdict.seeds for verdict in won]) < seeds, "it ends before all seeds are used"


def test_a_comparison_is_the_paired_t_test_at_its_share_of_the_error() -> None:
    losses = np.array([[1.0, 2.0, 4.0, 3.0], [1.9, 3.1, 4.8, 4.2]])
    p = stats.ttest_rel(losses[0], losses[1]).pvalue
    for alpha, dropped in ((1.001 * p / share(4), True), (0.999 * p / share(4), False)):
        verdict = race(losses[:, None], alpha)
        assert verdict.seeds == 4
        assert verdict.kept.tolist() == [True, not dropped]
    three = np.concatenate([losses, losses[:1]])[:, None]
    for factor, dropped in ((3.003, True), (2.997, False)):
        assert race(three, factor * p / share(4)).kept.tolist() == [True, not dropped, True]


def test_all_looks_together_spend_no_more_than_the_permitted_error() -> None:
    spent = np.cumsum([share(n) for n in range(2, 10_000)])
    assert spent[-1] < 1
    assert spent[3 - 1] == pytest.approx(np.exp(-1), abs=1e-6), "by the look after four seeds"


def test_nobody_is_dropped_before_two_seeds() -> None:
    first = race(np.array([[[1.0]], [[100.0]]]))
    assert (first.seeds, first.kept.tolist(), first.racing.tolist()) == (1, [True] * 2, [True] * 2)


def test_a_race_waits_for_those_who_are_still_in_it_and_for_no_others() -> None:
    generator = np.random.default_rng(1)
    losses = drawn(generator, 3, 8, lead=0.0)
    losses[2] += 50 + losses[2] / 50  # far behind
    whole = race(losses)
    assert whole.kept.tolist() == [True, True, False]
    dropped = next(n for n in range(2, 9) if not race(losses[:, :, :n]).kept[2])
    unknown = losses.copy()
    unknown[2, :, dropped:] = NAN
    assert race(unknown).seeds == whole.seeds == 8, "the dropped one needs no more seeds"
    unknown[1, :, 6:] = NAN
    waiting = race(unknown)
    assert (waiting.seeds, waiting.racing.tolist()) == (6, [True, True, False])


def test_a_verdict_stays_when_more_seeds_come_in() -> None:
    losses = drawn(np.random.default_rng(2), 3, 12, lead=2.0)
    kept = np.stack([race(losses[:, :, :n]).kept for n in range(1, 13)])
    assert (kept[1:] <= kept[:-1]).all()
    assert kept[-1].tolist() == [True, False, False]


def test_a_candidate_without_a_value_leaves_the_race() -> None:
    losses = drawn(np.random.default_rng(3), 3, 4, lead=0.0)
    losses[1, :, 0] = INF
    losses[1, :, 1:] = NAN
    verdict = race(losses)
    assert (verdict.seeds, verdict.kept.tolist()) == (4, [True, False, True])
    nobody = race(np.full((2, 1, 3), INF))
    assert not nobody.kept.any()
    assert not nobody.racing.any()


def test_a_single_candidate_is_done_after_two_seeds() -> None:
    verdict = race(np.array([[[3.0, 1.0, 2.0]]]))
    assert (verdict.seeds, verdict.kept.tolist(), verdict.racing.tolist()) == (2, [True], [False])


def test_of_several_objectives_the_worse_in_all_is_dropped_and_a_trade_off_is_kept() -> None:
    noise = np.random.default_rng(4).normal(scale=0.01, size=(3, 2, 8))
    losses = noise + np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])[:, :, None]
    verdict = race(losses)
    assert verdict.kept.tolist() == [True, True, False]
    assert not verdict.racing.any(), "told apart, though neither is better in both"
    assert verdict.seeds < 8
    half = noise + np.array([[0.0, 1.0], [0.0, 1.5], [0.0, 1.0]])[:, :, None]
    assert race(half).kept.all(), "worse in one objective, and equal in the other"


def test_differences_without_spread_are_judged_by_their_signs() -> None:
    """Counts, such as active units, may differ by the same number each time."""
    losses = np.zeros((2, 1, 20))
    assert race(losses).racing.all()
    losses[1] = 1.0
    few, many = race(losses[:, :, :3]), race(losses)
    assert few.kept.all()
    assert many.kept.tolist() == [True, False]
    assert 2.0 ** (1 - many.seeds) <= ALPHA * share(many.seeds)
