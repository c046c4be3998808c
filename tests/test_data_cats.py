"""The drawn cats: deterministic, varied, and drawn from the factors that are kept with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from experiments.data import ImageSet, load_cats
from experiments.data.cats import (
    ACCESSORIES,
    BACKGROUNDS,
    CHUNK,
    COATS,
    EYES,
    draw_cats,
    draw_factors,
    render,
)
from experiments.errors import UserError

Load = Callable[..., ImageSet]


@pytest.fixture(scope="module")
def factors() -> dict[str, NDArray[np.float32]]:
    return draw_factors(0, 0)


def _drawn(count: int, **settings: int) -> NDArray[np.uint8]:
    return np.concatenate([images for images, _ in draw_cats(count, **settings)])


def test_the_same_seed_draws_the_same_bytes_and_another_seed_other_cats() -> None:
    first = _drawn(10, seed=3, size=32)
    assert np.array_equal(first, _drawn(10, seed=3, size=32))
    assert not np.array_equal(first, _drawn(10, seed=4, size=32))


def test_a_cat_does_not_depend_on_how_many_are_drawn_nor_on_the_threads() -> None:
    many = _drawn(CHUNK + 9, seed=0, size=24, workers=2)
    assert len(many) == CHUNK + 9
    for count in (1, 7, CHUNK, CHUNK + 1):
        assert np.array_equal(_drawn(count, seed=0, size=24, workers=1), many[:count])


@pytest.mark.parametrize("size", [8, 31, 100])
def test_cats_are_drawn_at_any_size(size: int) -> None:
    (images, factors) = next(draw_cats(3, seed=0, size=size))
    assert images.shape == (3, 3, size, size)
    assert images.dtype == np.uint8
    assert {len(values) for values in factors.values()} == {3}


def test_a_larger_size_shows_the_same_cats(factors: dict[str, NDArray[np.float32]]) -> None:
    few = {name: values[:8] for name, values in factors.items()}
    large = render(few, 256).astype(float)
    averaged = large.reshape(8, 3, 64, 4, 64, 4).mean(axis=(3, 5))
    # One value a pixel is close to the mean over the pixel only with anti-aliased edges.
    assert np.abs(averaged - render(few, 64)).mean() < 2.5


def test_moving_a_cat_moves_its_pixels(factors: dict[str, NDArray[np.float32]]) -> None:
    one = {name: values[:1].copy() for name, values in factors.items()}
    plain = one | {"background": np.zeros(1, np.float32), "background_second": one["fur"] * 0}
    plain["background_first"] = plain["background_second"]
    moved = plain | {"x": plain["x"] + np.float32(8 / 64 * 2)}
    left, right = render(plain, 64)[0], render(moved, 64)[0]
    assert np.abs(left[:, :, 10:40].astype(int) - right[:, :, 18:48]).mean() < 0.5


@pytest.mark.slow
def test_every_factor_can_be_seen(factors: dict[str, NDArray[np.float32]]) -> None:
    # Names and colours of the eyes are drawn together; the names only label.
    labels = {"eye_colour", "odd_eyed"}
    before = render(factors, 32).astype(int)
    for name in set(factors) - labels:
        changed = factors | {name: np.roll(factors[name], 1, axis=0)}
        assert np.abs(render(changed, 32) - before).max() > 8, name


def test_factors_stay_within_their_categories(factors: dict[str, NDArray[np.float32]]) -> None:
    for name, known in (
        ("coat", COATS),
        ("background", BACKGROUNDS),
        ("accessory", ACCESSORIES),
        ("eye_colour", EYES),
    ):
        assert set(factors[name].astype(int)) == set(range(len(known))), name
    for name in ("fur", "second_fur", "left_eye", "right_eye", "background_first", "accent"):
        assert factors[name].shape == (CHUNK, 3)
        assert factors[name].min() >= 0
        assert factors[name].max() <= 1
    odd = np.abs(factors["left_eye"] - factors["right_eye"]).max(axis=1) > 0.05
    assert np.array_equal(odd, factors["odd_eyed"] == 1)


def test_no_two_cats_look_alike() -> None:
    images = _drawn(256, seed=0, size=16).reshape(256, -1).astype(float)
    squares = (images**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * images @ images.T + 1e12 * np.eye(256)
    assert np.sqrt(distances.min() / images.shape[1]) > 8  # of 255, root mean square


def test_loading_keeps_the_factors_beside_the_images(tmp_path: Path) -> None:
    cats = load_cats(count=140, generator_seed=5, size=16, cache_dir=tmp_path, progress=False)
    again = load_cats(count=140, generator_seed=5, size=16, cache_dir=tmp_path, progress=False)
    assert cats.images.shape == (140, 3, 16, 16)
    assert cats.image_shape == (3, 16, 16)
    assert not cats.images.flags.writeable
    assert isinstance(again.images, np.memmap)
    assert cats.factors is not None
    assert again.factors is not None
    drawn = draw_factors(5, 0)
    for name, values in drawn.items():
        assert np.array_equal(cats.factors[name][:CHUNK], values), name
        assert np.array_equal(cats.factors[name], again.factors[name]), name
    assert np.array_equal(cats.images[:CHUNK], _drawn(CHUNK, seed=5, size=16))
    assert np.array_equal(cats.images, again.images)
    assert len(np.unique(cats.digests)) == len(set(cats.names)) == 140
    assert cats.skipped == []


def test_grey_cats_are_what_pillow_makes_of_coloured_ones(tmp_path: Path) -> None:
    colour = load_cats(count=4, size=16, cache_dir=tmp_path, progress=False)
    grey = load_cats(count=4, size=16, channels=1, cache_dir=tmp_path, progress=False)
    assert grey.images.shape == (4, 1, 16, 16)
    assert grey.fingerprint != colour.fingerprint
    for rgb, luma in zip(colour.images, grey.images, strict=True):
        expected = np.asarray(Image.fromarray(rgb.transpose(1, 2, 0)).convert("L"))
        assert np.abs(expected.astype(int) - luma[0]).max() <= 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"count": 0}, r"`data\.count` must be 1 or more, but got 0"),
        ({"generator_seed": -1}, r"`data\.generator_seed` must be 0 or more, but got -1"),
        ({"size": 4}, r"`data\.size` must be in \[8, 1024\], but got 4"),
        ({"channels": 2}, r"`data\.channels` must be 1 or 3, but got 2"),
    ],
)
def test_settings_out_of_range_are_refused(
    tmp_path: Path, setting: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_cats(cache_dir=tmp_path, progress=False, **setting)
    assert list(tmp_path.iterdir()) == []
