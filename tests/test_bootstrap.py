"""Resampled seeds and images against drawing them one by one, and against rates of coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis import statistics as st
from analysis.statistics import Resamples
from analysis.statistics.estimates import Array


def expanded(scores: Array, drawn: Resamples, k: int) -> Array:
    """Resample k written out."""
    seeds = np.repeat(np.arange(scores.shape[0]), drawn.seeds[k].astype(int))
    images = np.repeat(np.arange(scores.shape[1]), drawn.images[k].astype(int))
    return scores[np.ix_(seeds, images)]


@pytest.fixture
def scores() -> Array:
    return np.asarray(np.random.default_rng(0).normal(20, 1, size=(3, 30)))


@pytest.fixture
def drawn() -> Resamples:
    return st.draw(3, 30, resamples=80, seed=1)


def test_each_resample_draws_as_many_seeds_and_images_as_there_are(drawn: Resamples) -> None:
    assert (drawn.seeds.sum(axis=1) == 3).all()
    assert (drawn.images.sum(axis=1) == 30).all()
    assert drawn.images.mean(axis=0) == pytest.approx(np.ones(30), abs=0.5)


def test_the_same_seed_draws_the_same_images_whatever_the_number_of_seeds(
    drawn: Resamples,
) -> None:
    assert np.array_equal(st.draw(5, 30, resamples=80, seed=1).images, drawn.images)
    assert not np.array_equal(st.draw(3, 30, resamples=80, seed=2).images, drawn.images)


def test_means_and_interquartile_means_are_those_of_the_resamples_written_out(
    scores: Array, drawn: Resamples
) -> None:
    means = st.resampled_means(scores, drawn)
    middle = st.resampled_interquartile_means(scores, drawn)
    for k in range(80):
        written_out = expanded(scores, drawn, k)
        assert means[k] == pytest.approx(written_out.mean())
        assert middle[k] == pytest.approx(st.interquartile_mean(written_out), rel=1e-5)


def test_the_probability_of_improvement_is_counted_pair_by_pair() -> None:
    a, b = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0]])
    assert st.probability_of_improvement(a, b) == pytest.approx((0 + 1 + 0.5 + 0.5) / 4)
    assert st.probability_of_improvement(b, a) == pytest.approx(0.5)


def test_the_resampled_probability_of_improvement_is_that_of_the_resamples_written_out(
    scores: Array, drawn: Resamples
) -> None:
    other = np.random.default_rng(1).normal(20.3, 1, size=(4, 30))
    drawn_other = st.draw(4, 30, resamples=80, seed=1)
    found = st.resampled_improvement(scores, other, drawn, drawn_other)
    for k in range(80):
        a, b = expanded(scores, drawn, k), expanded(other, drawn_other, k)
        assert found[k] == pytest.approx(st.probability_of_improvement(a, b), abs=1e-6)


def test_with_many_seeds_percentile_intervals_hold_the_mean_at_the_stated_rate() -> None:
    held = []
    for k in range(200):
        random = np.random.default_rng(k)
        scores = random.normal(size=(30, 1)) + random.normal(size=(1, 30))
        low, high = st.percentile_interval(st.resampled_means(scores, st.draw(30, 30, seed=k)))
        held.append(low <= 0 <= high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_with_three_seeds_they_hold_it_less_often_as_the_documentation_says() -> None:
    held = []
    for k in range(300):
        scores = np.tile(np.random.default_rng(k).normal(size=(3, 1)), (1, 5))
        low, high = st.percentile_interval(st.resampled_means(scores, st.draw(3, 5, seed=k)))
        held.append(low <= 0 <= high)
    assert 0.65 <= np.mean(held) <= 0.83


def test_a_score_that_is_missing_leaves_no_interval() -> None:
    assert all(map(math.isnan, st.percentile_interval([1.0, math.nan, 2.0])))


def test_resamples_of_another_shape_are_refused(scores: Array, drawn: Resamples) -> None:
    with pytest.raises(ValueError, match=r"scores \(3, 29\) must be of that shape"):
        st.resampled_means(scores[:, :-1], drawn)
