"""Splits depend on each image's content and the seed, and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from experiments.data import split
from experiments.errors import UserError


@pytest.fixture(scope="module")
def digests() -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 2**64, 4000, dtype=np.uint64)


def test_every_image_is_in_one_split_in_ascending_order(digests: NDArray[np.uint64]) -> None:
    splits = split(digests)
    together = np.concatenate([splits.train, splits.val, splits.test])
    assert np.array_equal(np.sort(together), np.arange(len(digests)))
    for part in (splits.train, splits.val, splits.test):
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.15), (0.1, 0.3), (0.5, 0.2)])
def test_shares_are_those_asked_for_within_chance(
    digests: NDArray[np.uint64], val: float, test: float
) -> None:
    counts = np.zeros(3)
    for seed in range(20):
        splits = split(digests, val_fraction=val, test_fraction=test, seed=seed)
        counts += [len(splits.train), len(splits.val), len(splits.test)]
    expected = np.array([1 - val - test, val, test]) * counts.sum()
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_seeds_give_unrelated_splits(digests: NDArray[np.uint64]) -> None:
    member = np.zeros((6, len(digests)))
    for seed in range(6):
        member[seed, split(digests, seed=seed).val] = 1
    off_diagonal = np.asarray(np.corrcoef(member))[~np.eye(6, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.08  # five standard deviations of chance


def test_neighbouring_digests_fall_independently() -> None:
    splits = split(np.arange(20_000, dtype=np.uint64))
    assert abs(len(splits.val) - 3000) < 5 * np.sqrt(20_000 * 0.15 * 0.85)


def test_adding_and_removing_others_moves_nobody(digests: NDArray[np.uint64]) -> None:
    def where(some: NDArray[np.uint64]) -> dict[int, str]:
        splits = split(some, seed=3)
        return {int(some[i]): k for k in ("train", "val", "test") for i in getattr(splits, k)}

    before = where(digests[:1000])
    shuffled = np.random.default_rng(1).permutation(digests)
    after = where(shuffled)
    assert all(after[digest] == name for digest, name in before.items())


def test_duplicates_never_straddle(digests: NDArray[np.uint64]) -> None:
    splits = split(np.concatenate([digests, digests[::3], digests[::7]]))
    doubled = np.concatenate([digests, digests[::3], digests[::7]])
    sets = [set(doubled[part].tolist()) for part in (splits.train, splits.val, splits.test)]
    assert sum(len(part) for part in sets) == len(set.union(*sets))


def _split_mix(state: int) -> int:
    """The next number of SplitMix64, as published (Steele, Lea and Flood 2014)."""
    z = state = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_the_split_of_an_image_never_changes_between_versions(digests: NDArray[np.uint64]) -> None:
    # A change would mix old test images into training: the rule is written down here again.
    assert _split_mix(0) == 0xE220A8397B1DCDAF  # its published first number
    splits = split(digests, seed=1)
    position = [_split_mix(int(digest)) / 2**64 for digest in digests]
    assert splits.test.tolist() == [i for i, p in enumerate(position) if p < 0.15]
    assert splits.val.tolist() == [i for i, p in enumerate(position) if 0.15 <= p < 0.3]


def _enough(shares: tuple[float, ...]) -> int:
    n = 1
    while sum(stats.binom.cdf(1, n, share) for share in shares) >= 0.01:
        n += 1
    return n


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_too_few_images_are_refused_with_how_many_would_do(count: int) -> None:
    needed = _enough((0.7, 0.15, 0.15))
    message = rf"each split must have 2 images or more.*need about {needed} different images"
    with pytest.raises(UserError, match=message):
        split(np.arange(count, dtype=np.uint64))


def test_copies_of_one_image_cannot_be_split() -> None:
    with pytest.raises(UserError, match=r"of 500 images \(1 different ones\)"):
        split(np.full(500, 7, dtype=np.uint64))


def test_as_many_as_recommended_nearly_always_do() -> None:
    rng = np.random.default_rng(0)
    failures, needed = 0, _enough((0.7, 0.15, 0.15))
    for _ in range(1000):
        try:
            split(rng.integers(0, 2**64, needed, dtype=np.uint64))
        except UserError:
            failures += 1
    assert failures <= 25  # 1 in 100 expected


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"val_fraction": 0}, r"`data\.val_fraction` must be above 0 and below 1, but got 0"),
        ({"test_fraction": 1.0}, r"`data\.test_fraction` must be .*, but got 1\.0"),
        ({"val_fraction": -0.1}, "but got -0.1"),
        ({"val_fraction": float("nan")}, "but got nan"),
        (
            {"val_fraction": 0.6, "test_fraction": 0.4},
            r"must leave images to train on.*sum is 1\.0",
        ),
    ],
)
def test_fractions_out_of_range_are_refused(fractions: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(np.arange(100, dtype=np.uint64), **fractions)
