"""Losses that differ by a factor, an exponent or a negligible term train to one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments import building
from experiments.data import ImageSet
from experiments.trial import run_trial
from losses import trust

pytestmark = [pytest.mark.slow, pytest.mark.trains]

SETTINGS = [
    "data.size=32", "data.count=240", "model.width=4", "latent_dim=8", "batch_size=24",
    "max_epochs=20", "trainer.validate_every=20", "lr=4e-3", "optimizer.schedule=cosine",
    "optimizer.warmup_steps=10", "trainer.precision=32-true",
    "trainer.early_stopping_patience=null", "logger=none", "trainer.progress=false",
    "evaluation.samples=64",
]  # fmt: skip
SEEDS = (0, 1, 2)
WEIGHED, WEIGHED_MORE = {"kl": 0.05, "psnr": 0.1}, {"kl": 0.08, "psnr": 0.25}
"""Differences, of the KL relative, for which the weights of the images in a batch, and luck, are
enough in so short a training: a power q of a distance weighs each image by its distance to the
power q - 1. At twice the price of the KL it would differ by far more."""


class Model(NamedTuple):
    """What a loss has trained to, the mean over the seeds."""

    kl: float
    psnr: float
    degree: float
    clipped: float


Train = Callable[..., Model]


@pytest.fixture(scope="module")
def train(_hydra: None, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains a loss once for all tests that ask for it."""
    from hydra import compose

    from experiments import config as configs
    from experiments.record import read_history, read_result

    folder = tmp_path_factory.mktemp("one_scale")
    images: list[ImageSet] = []
    known: dict[tuple[str, ...], Model] = {}

    def trained(*loss: str) -> Model:
        if loss not in known:
            rows = []
            for seed in SEEDS:
                overrides = [*SETTINGS, f"data.cache_dir={folder}", *loss, f"seed={seed}"]
                config: dict[str, Any] = configs.plain(compose("config", overrides))
                images[:] = images or [building.load(config)]
                record = folder / f"{len(known)}-{seed}"
                run_trial(config, record, in_sweep=True, images=images[0])
                val, last = read_result(record)["metrics"]["val"], read_history(record)[-1]
                rows.append((val["kl"], val["psnr"], last["val/degree"], last["train/clipped"]))
            known[loss] = Model(*np.mean(rows, axis=0).tolist())
        return known[loss]

    return trained


@pytest.fixture
def own(train: Train, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains a power or a multiple as a loss of the user's own, whose degree is measured."""
    monkeypatch.setattr(trust, "AT_START", "tests")

    def trained(**options: float) -> Model:
        told = (f"+loss.options.{key}={value:g}" for key, value in options.items())
        return train("loss=custom", "loss.target=tests.powers.power", *told)

    return trained


def assert_alike(model: Model, other: Model, *, kl: float, psnr: float) -> None:
    assert model.kl == pytest.approx(other.kl, rel=kl), (model, other)
    assert model.psnr == pytest.approx(other.psnr, abs=psnr), (model, other)


def test_a_hundred_times_the_squared_error_is_the_squared_error(train: Train, own: Train) -> None:
    model = own(norm=2, factor=100)
    assert model.degree == pytest.approx(2, rel=1e-3)
    assert_alike(model, train("loss=mse"), kl=0.01, psnr=0.05)


def test_the_root_of_the_squared_error_is_the_squared_error(train: Train, own: Train) -> None:
    model = own(norm=2, exponent=0.5)
    assert model.degree == pytest.approx(1, rel=1e-3)
    assert_alike(model, train("loss=mse"), **WEIGHED)


def test_the_square_of_the_squared_error_weighs_images_otherwise_and_no_more(
    train: Train, own: Train
) -> None:
    model = own(norm=2, exponent=2)
    assert model.degree == pytest.approx(4, rel=1e-3)
    assert_alike(model, train("loss=mse"), **WEIGHED_MORE)


def test_the_square_of_the_absolute_error_is_the_absolute_error(train: Train, own: Train) -> None:
    model = own(norm=1, exponent=2)
    assert model.degree == pytest.approx(2, rel=1e-3)
    assert_alike(model, train("loss=l1"), **WEIGHED)


def test_charbonnier_goes_from_the_absolute_to_the_squared_error(train: Train) -> None:
    small, large = (train("loss=charbonnier", f"loss.epsilon={e}") for e in ("1e-5", "10"))
    assert small.degree == pytest.approx(1, abs=0.01)
    assert large.degree == pytest.approx(2, abs=0.01)
    assert_alike(small, train("loss=l1"), kl=0.01, psnr=0.05)
    assert_alike(large, train("loss=mse"), kl=0.01, psnr=0.05)


def test_a_millionth_of_ssim_beside_the_squared_error_is_the_squared_error(train: Train) -> None:
    mixed = train("loss=mix", "loss.terms=[mse,ssim]", "loss.weights=[1,1e-6]")
    assert mixed.degree == pytest.approx(2, rel=1e-3)
    assert_alike(mixed, train("loss=mse"), kl=0.01, psnr=0.05)


def test_gradient_clipping_rarely_acts(train: Train) -> None:
    assert train("loss=mse").clipped < 0.05
    assert train("loss=l1").clipped < 0.05
