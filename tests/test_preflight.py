"""What is said of a loss before it is trained, on images and from the command."""

from __future__ import annotations

import dataclasses
import io
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

import losses
from analysis.diagnosis import diagnose
from analysis.load import load
from experiments.data import load_cats, split
from experiments.preflight import forecasting
from experiments.preflight.capacity import capacity
from experiments.preflight.components import PrincipalComponents, explained, principal_components
from experiments.preflight.forecasting import Forecast, forecast
from experiments.preflight.telling import legend, say, table, trouble
from experiments.record import read_result
from experiments.scoring.symptoms import COLLAPSE
from experiments.trial import run_trial
from losses.distance import Distance
from losses.elbo import ELBO
from tests.waiting import PATIENCE

Compose = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[1]


def gaussian_images(count: int) -> NDArray[np.uint8]:
    """Grey 8x8 images around 128 with five strong components and noise."""
    random = np.random.default_rng(1)
    basis, _ = np.linalg.qr(random.normal(size=(64, 64)))
    deviations = np.concatenate([[60, 45, 30, 22, 16], np.full(59, 2.0)])
    flat = 128 + random.normal(size=(count, 64)) * deviations @ basis.T
    images: NDArray[np.uint8] = flat.round().clip(0, 255).astype(np.uint8)
    return images.reshape(count, 1, 8, 8)


@pytest.fixture(scope="module")
def gaussian() -> NDArray[np.uint8]:
    return gaussian_images(600)


@pytest.fixture(scope="module")
def cats(tmp_path_factory: pytest.TempPathFactory) -> PrincipalComponents:
    """Of drawn cats at 32x32."""
    cache = tmp_path_factory.mktemp("cache")
    images = load_cats(
        count=300, generator_seed=0, size=32, channels=3, cache_dir=cache, progress=False
    )
    return principal_components(images.images, split(images.digests).train, 32)


def test_the_components_are_that_of_the_covariance(gaussian: NDArray[np.uint8]) -> None:
    found = principal_components(gaussian, np.arange(600), 10)
    flat = gaussian.reshape(600, 64) / 255
    expected = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]
    np.testing.assert_allclose(found.eigenvalues[:5], expected[:5], rtol=1e-3)
    assert found.variance == pytest.approx(expected.sum(), rel=1e-4)
    np.testing.assert_allclose(found.mean.flatten(), flat.mean(0), atol=1e-5)


def test_components_rebuild_the_images(gaussian: NDArray[np.uint8]) -> None:
    found = principal_components(gaussian, np.arange(600), 63)
    rebuilt = found.mean + (found.scores @ found.components.flatten(1)).view_as(found.images)
    error = (rebuilt - found.images).square().flatten(1).sum(1).mean()
    assert error < 0.02 * found.variance


def test_eigenvalues_of_shrunk_images_are_no_more_than_the_true_ones() -> None:
    images = np.random.default_rng(0).integers(0, 256, (80, 3, 48, 48), dtype=np.uint8)
    found = principal_components(images, np.arange(80), 16)
    flat = images.reshape(80, -1) / 255
    flat = flat - flat.mean(0)
    expected = np.linalg.eigvalsh(flat @ flat.T / 80)[::-1]
    assert (found.eigenvalues.cumsum() <= expected[:16].cumsum() * (1 + 1e-5)).all()
    assert found.variance == pytest.approx(expected.sum(), rel=1e-4)


def test_finding_components_leaves_the_random_stream_alone(gaussian: NDArray[np.uint8]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    principal_components(gaussian, np.arange(600), 4)
    torch.testing.assert_close(torch.rand(4), expected)


def test_fewer_images_than_units_have_fewer_components(gaussian: NDArray[np.uint8]) -> None:
    found = principal_components(gaussian, np.arange(12), 32)
    assert len(found.eigenvalues) == 11
    by_component, start, _ = explained(losses.create("l1"), found, 32)
    assert len(by_component) == 11
    assert by_component.sum() == pytest.approx(start, rel=0.01)


def test_the_degree_is_not_that_of_the_rounding_of_few_images(
    cats: PrincipalComponents, tmp_path: Path
) -> None:
    shape = {"size": 32, "channels": 3}
    images = load_cats(
        count=40, generator_seed=0, cache_dir=tmp_path, progress=False, **shape
    ).images
    few = principal_components(images, np.arange(40), 64)
    for name in ("ssim", "charbonnier"):
        degrees = [explained(losses.create(name), found, 64).degree for found in (cats, few)]
        assert degrees[1] == pytest.approx(degrees[0], rel=0.3)


def test_what_explains_the_squared_error_are_its_eigenvalues(cats: PrincipalComponents) -> None:
    class Measured(Distance):
        """Unknown to `explained`, which has to measure it."""

        def distance(self, x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return (x_hat - x).square().flatten(1).mean(1)

    known, start, _ = explained(losses.create("mse"), cats, 32)
    measured, measured_start, degree = explained(Measured(), cats, 32)
    assert degree == pytest.approx(2, rel=1e-3)
    assert measured_start == pytest.approx(start, rel=0.1)  # on fewer images
    assert measured.sum() == pytest.approx(known.sum(), rel=0.15)
    assert measured[0] == pytest.approx(known[0], rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(losses.DISTANCES) - {"custom"}))
def test_averaged_alone_every_loss_is_told_to_collapse_and_at_the_common_scale_none(
    cats: PrincipalComponents, name: str
) -> None:
    rows = {
        scale: forecast(
            ELBO(losses.create(name), scale=scale), cats, name=name, latent_dim=32
        )
        for scale in losses.SCALES
    }  # fmt: skip
    assert rows["mean"].capacity.active == 0
    assert rows["mean"].most_kl() < 1
    message = trouble(rows["mean"])
    assert message is not None
    assert "posterior collapse" in message
    assert "loss.scale=optimal_sigma" in message
    assert rows["optimal_sigma"].capacity.active == 32
    assert trouble(rows["optimal_sigma"]) is None


def test_the_remedy_for_idle_units_works(cats: PrincipalComponents) -> None:
    def at(beta: float) -> Forecast:
        elbo = ELBO(losses.create("mse"), scale="sum", beta=beta)
        return forecast(elbo, cats, name="mse", latent_dim=32)

    dear = at(30.0)
    assert 0 < dear.capacity.active < 16
    message = trouble(dear)
    assert message is not None
    beta = float(message.split("beta=")[1].split(",")[0])
    assert at(beta).capacity.active == 32
    assert trouble(at(beta)) is None


def test_at_optimal_sigma_the_only_remedy_is_a_smaller_beta(cats: PrincipalComponents) -> None:
    elbo = ELBO(losses.create("mse"), beta=3000.0)
    message = trouble(forecast(elbo, cats, name="mse", latent_dim=32))
    assert message is not None
    assert "beta=" in message
    assert "optimal_sigma" not in message


def test_a_power_of_a_loss_can_pay_for_what_the_loss_can(cats: PrincipalComponents) -> None:
    class Power(Distance):
        def __init__(self, exponent: float) -> None:
            super().__init__()
            self._exponent = exponent

        def distance(self, x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            error: torch.Tensor = (x_hat - x).square().mean() ** self._exponent
            return error.expand(len(x))

    found = {}
    for exponent in (0.5, 1.0, 2.0):
        distance = Power(exponent)
        elbo = ELBO(distance, beta=100.0)
        found[exponent] = forecast(elbo, cats, name="custom", latent_dim=32)
    assert 0 < found[1.0].capacity.active < 32
    for exponent, one in found.items():
        assert one.degree == pytest.approx(2 * exponent, rel=1e-3)
        assert one.capacity.active == found[1.0].capacity.active
        assert one.capacity.kl == pytest.approx(found[1.0].capacity.kl, rel=1e-3)
        assert f"(of degree {2 * exponent:.3g})" in say(one)
        assert one.record()["degree"] == one.degree


@pytest.mark.slow
def test_the_real_photos_give_the_known_numbers(photos: Path, tmp_path: Path) -> None:
    """What losses are worth on CIFAR's cats, where the library averages over a batch of 64 whose
    KL is summed.
    """
    from experiments.data import load_images

    images = load_images(
        root=str(photos / "cifar_cats_5000.zip"), size=32, channels=3,
        cache_dir=tmp_path, progress=False,
    )  # fmt: skip
    found = principal_components(images.images, np.arange(len(images.images)), 32)

    def can(name: str, scale: str, **options: Any) -> Forecast:
        elbo = ELBO(losses.create(name, **options), scale=scale)
        return forecast(elbo, found, name=name, latent_dim=32)

    assert can("mse", "sum").capacity.active == 32
    assert can("mse", "mean").capacity.active == 0
    kornia = can("kornia_ms_ssim", "mean", compensation=200.0).capacity.gain / 64
    assert kornia == pytest.approx(0.5, rel=0.05)
    monai = can("ssim", "mean").capacity.gain / 64
    assert monai == pytest.approx(0.014, rel=0.05)


def test_several_latent_sizes_share_a_row_and_trouble_is_named() -> None:
    def row(loss: str, scale: str, latent_dim: int) -> Forecast:
        can = capacity(0.01 / np.arange(1, latent_dim + 1), 0.1, scale=scale, values=3072)
        return Forecast(loss, scale, 1.0, latent_dim, can)

    rows = [row("l1", "sum", 4), row("l1", "sum", 8), row("l1", "mean", 4)]
    text = io.StringIO()
    Console(file=text, width=100).print(table(rows, "title"))
    lines = [line for line in text.getvalue().splitlines() if line.strip().startswith("l1")]
    assert len(lines) == 2
    assert "4 of 4, 8 of 8" in lines[0]
    assert lines[1].rstrip().endswith("collapse")
    assert "loss.scale=optimal_sigma" in legend(rows)[-1]
    assert legend(rows[:2]) == legend([rows[0]])


@pytest.mark.slow
def test_losses_of_one_name_are_told_apart_by_their_options(tiny: Compose) -> None:
    wanted = [tiny("loss=ssim", f"loss.window_size={size}") for size in (7, 11)]
    rows, title = forecasting.forecasts([*wanted, tiny("loss=mse")])
    assert [row.loss for row in rows] == ["ssim window_size=7", "ssim window_size=11", "mse"]
    assert "at 32x32, beta=1" in title


@pytest.mark.slow
def test_a_trial_that_will_collapse_is_warned_of_and_does(
    tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = tiny("loss.scale=mean", "max_epochs=20", "lr=5e-3", "optimizer.warmup_steps=5")
    result = run_trial(config, tmp_path / "record")
    (warning,) = [r for r in caplog.records if r.name == "experiments.preflight.telling"]
    assert warning.levelno == logging.WARNING
    assert "posterior collapse" in warning.message
    stored = read_result(tmp_path / "record")["preflight"]
    assert stored["active_units"] == 0
    assert stored["most_kl"] < 1
    assert result.metrics["val"]["kl"] < stored["most_kl"]
    assert result.metrics["val"]["active_units"] == 0
    assert "posterior collapse: 0 of 4 units active" in caplog.text
    (found,) = [f for f in diagnose(load(tmp_path / "record")) if f.kind == COLLAPSE]
    assert found.what == "posterior collapse in 1 of 1 trial of loss=mse loss.scale=mean"
    assert found.remedy == "loss.scale=optimal_sigma"


@pytest.mark.slow
def test_a_trial_that_can_pay_is_not_warned_of_and_uses_its_units(
    tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = tiny("loss.scale=sum", "max_epochs=20", "lr=5e-3", "optimizer.warmup_steps=5")
    result = run_trial(config, tmp_path / "record")
    (line,) = [r for r in caplog.records if r.name == "experiments.preflight.telling"]
    assert line.levelno == logging.INFO
    stored = read_result(tmp_path / "record")["preflight"]
    assert stored["active_units"] == result.metrics["val"]["active_units"] == 4
    assert COLLAPSE not in {finding.kind for finding in diagnose(load(tmp_path / "record"))}
    assert result.metrics["val"]["kl"] < stored["most_kl"]


def test_a_distance_that_cannot_be_measured_does_not_stop_the_trial(
    tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("too many images at once")

    monkeypatch.setattr("experiments.preflight.components.explained", fail)
    monkeypatch.setattr(forecasting, "_LAST", {})
    run_trial(tiny(), tmp_path / "record")
    assert "too many images at once" in caplog.text
    stored = read_result(tmp_path / "record")
    assert (stored["status"], stored["preflight"]) == ("completed", None)


def test_trials_of_one_distance_measure_it_once(
    tiny: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasting, "_LAST", {})
    first = forecasting.forecasts([tiny("loss=l1", "loss.scale=sum")])
    monkeypatch.setattr("experiments.preflight.components.explained", None)
    monkeypatch.setattr("experiments.preflight.components.principal_components", None)
    again = forecasting.forecasts([tiny("loss=l1", "loss.scale=mean", "latent_dim=2", "lr=1")])
    assert again[0][0].capacity.gain == pytest.approx(first[0][0].capacity.gain / 3072)


def test_the_sentence_names_the_loss_as_it_is_typed(cats: PrincipalComponents) -> None:
    elbo = ELBO(losses.create("mse"), scale="sum", beta=2.0)
    text = say(forecast(elbo, cats, name="mse", latent_dim=16))
    assert text.startswith("loss=mse loss.scale=sum beta=2 can pay for")
    free = dataclasses.replace(forecast(elbo, cats, name="mse", latent_dim=16), beta=0.0)
    assert "unbounded" in say(free)


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.preflight", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_prints_every_loss_at_every_scale() -> None:
    done = run_command("data.count=120", "data.size=32", "latent_dim=4")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if len(line.split()) > 4]
    for name in set(losses.DISTANCES) - {"custom"}:
        assert {row[1] for row in rows if row[0] == name} == set(losses.SCALES)
    assert all(row[-1] == "collapse" for row in rows if row[1:2] == ["mean"])


def test_a_mistake_in_the_command_is_one_message() -> None:
    done = run_command("loss=nope")
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr
