"""The statistics of scores against SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis import statistics as st
from analysis.statistics.estimates import Array


def scores(
    seeds: int,
    images: int,
    *,
    of: int | tuple[int, int] = 0,
    seed: float = 1.0,
    image: float = 1.0,
    rest: float = 1.0,
) -> Array:
    """Scores (S, N) around 20 with effects of seeds and images of these standard deviations."""
    random = np.random.default_rng(of)
    table = 20 + seed * random.normal(size=(seeds, 1)) + image * random.normal(size=(1, images))
    return np.asarray(table + rest * random.normal(size=(seeds, images)))


def test_without_noise_of_images_the_interval_is_students_over_seeds() -> None:
    values = np.array([19.2, 19.9, 19.5])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    for found in (st.seed_interval(values), st.mean_interval(np.tile(values[:, None], (1, 50)))):
        assert found.value == pytest.approx(values.mean())
        assert (found.low, found.high) == pytest.approx(expected)


def test_without_noise_of_seeds_the_interval_is_students_over_images() -> None:
    values = np.random.default_rng(0).normal(size=40)
    expected = stats.t.interval(0.9, 39, values.mean(), stats.sem(values))
    found = st.mean_interval(np.tile(values, (4, 1)), level=0.9)
    assert (found.low, found.high) == pytest.approx(expected)


def test_one_seed_gives_a_mean_but_no_interval() -> None:
    found = st.mean_interval(scores(1, 30))
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_the_interquartile_mean_is_scipys_where_quarters_are_whole() -> None:
    values = np.random.default_rng(0).standard_cauchy(size=(4, 25))
    assert st.interquartile_mean(values) == pytest.approx(stats.trim_mean(values.ravel(), 0.25))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], 3.0), ([1, 2, 9], (0.25 * 1 + 2 + 0.25 * 9) / 1.5), ([0, 1, 2, 3, 100], 5 / 2.5)],
)
def test_the_interquartile_mean_counts_values_at_the_quartiles_in_part(
    values: list[float], expected: float
) -> None:
    assert st.interquartile_mean(values) == pytest.approx(expected)


@pytest.mark.parametrize("above", [-5.0, 0.0, 10.0, 1e4])
def test_welchs_test_is_scipys(above: float) -> None:
    a, b = np.array([51.0, 48.5, 50.2]) + above, np.array([45.0, 47.5, 44.1, 49.9])
    theirs = stats.ttest_ind(a, b, equal_var=False)
    found = st.welch_difference(a, b)
    assert found.p == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_without_noise_of_images_the_paired_difference_is_welchs_of_seeds() -> None:
    a, b = scores(3, 1, of=1), scores(5, 1, of=2)
    found = st.paired_difference(np.tile(a, (1, 9)), np.tile(b, (1, 9)))
    assert found == pytest.approx(st.welch_difference(a[:, 0], b[:, 0]))


def test_without_noise_of_seeds_the_paired_difference_is_the_paired_t_test_of_images() -> None:
    a, b = scores(1, 60, of=1), scores(1, 60, of=2)
    found = st.paired_difference(np.tile(a, (3, 1)), np.tile(b, (2, 1)))
    assert found.p == pytest.approx(stats.ttest_rel(a[0], b[0]).pvalue)


def test_how_hard_an_image_is_cancels_in_a_paired_difference() -> None:
    a, b = scores(3, 50, of=1, image=0), scores(3, 50, of=2, image=0)
    hard = 100 * np.random.default_rng(0).normal(size=50)
    assert st.paired_difference(a + hard, b + hard) == pytest.approx(st.paired_difference(a, b))


def test_the_other_way_round_a_difference_only_changes_its_sign() -> None:
    a, b = scores(3, 50, of=1), scores(4, 50, of=2)
    there, back = st.paired_difference(a, b), st.paired_difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-there.value, -there.high, -there.low)
    )
    assert back.p == pytest.approx(there.p)


def test_one_seed_of_either_gives_a_difference_but_no_p_value() -> None:
    found = st.paired_difference(scores(1, 30), scores(3, 30, of=1))
    assert math.isfinite(found.value)
    assert all(map(math.isnan, (found.low, found.high, found.p)))


def test_equal_scores_do_not_differ_and_a_difference_without_noise_is_certain() -> None:
    units = np.full(3, 32.0)
    assert st.welch_difference(units, units).p == 1
    assert st.welch_difference(units, units - 1).p == 0


def test_the_p_value_is_1_less_the_level_of_the_interval_that_ends_at_zero() -> None:
    a, b = scores(3, 40, of=1, seed=0.2), scores(4, 40, of=2, seed=0.2)
    p = st.paired_difference(a, b).p
    found = st.paired_difference(a, b, level=1 - p)
    assert min(abs(found.low), abs(found.high)) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "image", "rest"), [(1, 0, 0.01), (0.1, 1, 0.3), (0.1, 0.2, 1), (1, 1, 1)]
)
def test_intervals_hold_the_mean_and_ties_are_called_different_at_the_stated_rates(
    seed: float, image: float, rest: float
) -> None:
    """At 95%, in 1000 draws of 3 seeds and 40 images; with room for twice the standard error."""
    draws, held, different = 1000, 0, 0
    for draw in range(draws):
        a, b = (scores(3, 40, of=(draw, k), seed=seed, image=0, rest=rest) for k in (1, 2))
        hard = image * scores(1, 40, of=(draw, 3), seed=0, image=0) - 20 * image
        interval = st.mean_interval(a + hard)
        held += interval.low <= 20 <= interval.high
        different += st.paired_difference(a + hard, b + hard).p < 0.05
    assert held / draws >= 0.936
    assert different / draws <= 0.064


def test_a_planted_difference_is_found() -> None:
    found = [
        st.paired_difference(
            scores(3, 100, of=k, seed=0.1) + 1, scores(3, 100, of=k + 99, seed=0.1)
        )
        for k in range(20)
    ]
    assert sum(difference.p < 0.05 for difference in found) >= 19


def test_holm_is_the_published_procedure() -> None:
    # scipy has none; by hand: 4*.005, 3*.01, max(2*.03, that), then 1*.04 is held up to .06
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_tests_that_could_not_be_done() -> None:
    corrected = st.holm([0.01, math.nan, 0.04])
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])


def test_holm_keeps_all_errors_together_at_the_level() -> None:
    p = np.random.default_rng(0).uniform(size=(2000, 12))
    wrong = [(st.holm(row) < 0.05).any() for row in p]
    assert np.mean(wrong) <= 0.065


def test_ranks_count_from_the_best_and_ties_share_a_place() -> None:
    assert st.ranks([19.0, 20.0, 18.0, 20.0], "maximize").tolist() == [3, 1.5, 4, 1.5]
    lacking = st.ranks([0.2, math.nan, 0.1], "minimize")
    assert lacking[[0, 2]].tolist() == [2, 1]
    means = st.mean_ranks(np.stack([[1, 2, 3], lacking], axis=1))
    assert means[[0, 2]].tolist() == [1.5, 2]
    assert math.isnan(means[1])


@pytest.mark.parametrize("shape", [(6,), (0, 5), (2, 3, 4)])
def test_scores_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(seeds, images\), but got"):
        st.mean_interval(np.zeros(shape))


def test_scores_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the same images, but got 10 .* and 12"):
        st.paired_difference(scores(2, 10), scores(2, 12))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_confidence_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1, but got"):
        st.seed_interval([1.0, 2.0], level=level)
