"""The metrics of reconstructions and latents against torchmetrics, scikit-image and NumPy."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from experiments.metrics import METRICS, direction, margin, validated
from experiments.metrics.latent import LatentMetrics
from experiments.metrics.reconstruction import (
    HIGHEST_PSNR,
    ReconstructionMetrics,
    mean_image_psnr,
    reconstruction_metrics,
)

WANG = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def images(
    count: int, channels: int, side: int, seed: int = 0, noise: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Smooth random images, and noisy copies of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, max(2, side // 8), max(2, side // 8), generator=generator)
    x = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    x_hat = (x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return x_hat, x


def test_every_metric_has_a_direction_and_its_own_name() -> None:
    assert all(metric.name == name for name, metric in METRICS.items())
    assert direction("psnr") == "maximize"
    assert direction("kl") == "minimize"
    assert set(validated()) < set(METRICS)


def test_a_margin_is_fixed_or_a_part_of_the_best_value_or_what_was_given() -> None:
    assert margin("psnr", 20.0) == 0.1
    assert margin("ms_ssim", 0.5) == margin("ssim", 0.5) == 0.005
    assert margin("l1", -0.2) == pytest.approx(0.002)
    assert margin("psnr", 20.0, {"psnr": 0.3, "l1": 1.0}) == 0.3
    with pytest.raises(ValueError, match="'psrn'"):
        margin("psrn", 1.0)


def test_an_unknown_metric_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"one of psnr, ssim, .*but got 'psrn'"):
        direction("psrn")


def test_naming_the_metrics_imports_no_heavy_package() -> None:
    code = "import sys, experiments.metrics; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (32, 2), (64, 3), (128, 4), (176, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_structural_metrics_are_those_of_torchmetrics(
    side: int, scales: int, channels: int
) -> None:
    x_hat, x = images(3, channels, side)
    values = reconstruction_metrics(x_hat, x)
    ssim = structural_similarity_index_measure(x_hat, x, data_range=1.0, reduction="none")
    betas = tuple(beta / sum(WANG[:scales]) for beta in WANG[:scales])
    ms_ssim = multiscale_structural_similarity_index_measure(
        x_hat, x, data_range=1.0, reduction="none", betas=betas, normalize="relu"
    )
    torch.testing.assert_close(values["ssim"], ssim, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(values["ms_ssim"], ms_ssim, atol=1e-5, rtol=1e-4)


def test_ssim_agrees_with_scikit_image() -> None:
    """Up to the border, which it continues in another way: so a flat frame without error."""
    x_hat, x = (nn.functional.pad(part, [12] * 4, value=0.4) for part in images(2, 1, 40))
    ours = reconstruction_metrics(x_hat, x)["ssim"]
    for i in range(2):
        _, theirs = structural_similarity(
            x_hat[i, 0].double().numpy(),
            x[i, 0].double().numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        assert float(ours[i]) == pytest.approx(theirs.mean(), abs=1e-5)


def test_pixel_metrics_agree_with_numpy_and_scikit_image() -> None:
    x_hat, x = images(4, 3, 32)
    values = reconstruction_metrics(x_hat, x)
    a, b = x_hat.double().numpy(), x.double().numpy()
    np.testing.assert_allclose(values["l1"], np.abs(a - b).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(values["mse"], ((a - b) ** 2).mean((1, 2, 3)), rtol=1e-5)
    psnr = [peak_signal_noise_ratio(b[i], a[i], data_range=1.0) for i in range(4)]
    np.testing.assert_allclose(values["psnr"], psnr, rtol=1e-5)


def test_a_uniform_error_has_the_closed_form_psnr() -> None:
    x = torch.full((1, 3, 32, 32), 0.5)
    assert float(reconstruction_metrics(x + 0.1, x)["psnr"]) == pytest.approx(20.0, abs=1e-4)


def test_the_split_does_not_depend_on_its_batches() -> None:
    x_hat, x = images(10, 3, 32)
    scale = torch.linspace(0.1, 1, 10).reshape(-1, 1, 1, 1)  # images of different quality
    x_hat = x + scale * (x_hat - x)
    whole, parts = ReconstructionMetrics(), ReconstructionMetrics()
    whole.update(x_hat, x)
    for start, end in ((0, 1), (1, 8), (8, 10)):
        parts.update(x_hat[start:end], x[start:end])
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-6)
    per_image = parts.per_image()
    assert per_image["psnr"].shape == (10,)
    assert parts.compute()["psnr"] == pytest.approx(per_image["psnr"].mean())
    assert list(per_image["psnr"]) == sorted(per_image["psnr"], reverse=True)


def test_a_perfect_reconstruction_is_finite_in_json() -> None:
    _, x = images(2, 3, 32)
    metrics = ReconstructionMetrics()
    metrics.update(x, x)
    values = json.loads(json.dumps(metrics.compute(), allow_nan=False))
    assert values["psnr"] == HIGHEST_PSNR
    assert values["ssim"] == pytest.approx(1)
    assert values["ms_ssim"] == pytest.approx(1)
    assert values["l1"] == values["mse"] == 0


def test_the_negative_of_an_image_has_a_finite_ms_ssim() -> None:
    _, x = images(2, 3, 64)
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 1.0
    x = torch.cat([x, checks.expand(1, 3, -1, -1)])
    values = reconstruction_metrics(1 - x, x)
    assert values["ms_ssim"].isfinite().all()
    assert float(values["ms_ssim"][-1]) == 0


def test_only_the_reconstruction_metrics_asked_for_are_computed() -> None:
    x_hat, x = images(2, 3, 64)
    metrics = ReconstructionMetrics(("ms_ssim", "l1"))
    metrics.update(x_hat, x)
    everything = reconstruction_metrics(x_hat, x)
    expected = {name: float(everything[name].mean()) for name in ("ms_ssim", "l1")}
    assert metrics.compute() == pytest.approx(expected)
    tiny = ReconstructionMetrics(("psnr",))
    tiny.update(x_hat[..., :4, :4], x[..., :4, :4])
    assert list(tiny.compute()) == ["psnr"]


def test_reset_forgets_the_images() -> None:
    x_hat, x = images(2, 3, 32)
    metrics = ReconstructionMetrics(("l1",))
    metrics.update(x_hat, x)
    metrics.reset()
    metrics.update(x, x)
    assert metrics.compute() == {"l1": 0.0}


def test_half_precision_and_autocast_change_nothing() -> None:
    x_hat, x = (part.bfloat16() for part in images(2, 3, 64))
    expected = reconstruction_metrics(x_hat.float(), x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = reconstruction_metrics(x_hat, x)
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)), "one shape"),
        ((torch.rand(3, 32, 32), torch.rand(3, 32, 32)), "one shape"),
        ((torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.rand(1, 3, 32, 32)), "divide"),
    ],
)
def test_wrong_images_are_refused(arguments: tuple[Tensor, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReconstructionMetrics().update(*arguments)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_images_smaller_than_the_window_have_no_structural_similarity(name: str) -> None:
    x = torch.rand(1, 3, 10, 32)
    with pytest.raises(ValueError, match=f"`{name}`.*11 pixels.*10x32"):
        reconstruction_metrics(x, x, strict=True, names=[name])
    assert reconstruction_metrics(x, x)[name].isnan().all()


@pytest.mark.parametrize("names", [(), ("psnr", "kl"), ("nonsense",)])
def test_wrong_names_of_reconstruction_metrics_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="some of psnr, ssim, ms_ssim, l1, mse"):
        ReconstructionMetrics(names)


def test_no_images_is_an_error_not_a_number() -> None:
    with pytest.raises(ValueError, match="at least 1 image"):
        ReconstructionMetrics().compute()


def test_the_mean_image_is_the_mean_of_the_training_images() -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=generator)
    held_out = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=generator)
    mean = train.numpy().mean(0) / 255
    psnr = [
        peak_signal_noise_ratio(image / 255, mean, data_range=1.0) for image in held_out.numpy()
    ]
    assert mean_image_psnr(train.split(4), held_out.split(2)) == pytest.approx(
        np.mean(psnr), abs=1e-4
    )


def test_kl_is_that_of_torch_distributions_averaged_over_the_images() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(7, 5), torch.randn(7, 5)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(torch.zeros(()), torch.ones(()))
    )
    metrics = LatentMetrics()
    metrics.update(mean[:3], log_variance[:3])
    metrics.update(mean[3:], log_variance[3:])
    assert metrics.compute()["kl"] == pytest.approx(float(kl.sum(1).mean()), rel=1e-5)
    np.testing.assert_allclose(metrics.per_unit()["kl"], kl.mean(0), rtol=1e-4)


def test_a_unit_is_active_above_a_variance_of_a_hundredth_over_the_split() -> None:
    """Each batch alone has no variance in the first unit: only the whole split shows it."""
    batches = [torch.tensor([[level, 0.3, 0.0]] * 4) for level in (-0.2, 0.2)]
    batches[0][0, 2] = 0.05  # varies, but by less than 0.01
    metrics = LatentMetrics()
    for batch in batches:
        metrics.update(batch, torch.zeros_like(batch))
    assert metrics.compute()["active_units"] == 1.0
    expected = np.var(torch.cat(batches).numpy(), axis=0, ddof=1)
    np.testing.assert_allclose(metrics.per_unit()["variance"], expected, atol=1e-8)


def test_a_posterior_equal_to_the_prior_has_no_kl_and_no_active_unit() -> None:
    metrics = LatentMetrics()
    metrics.update(torch.zeros(4, 8), torch.zeros(4, 8))
    assert metrics.compute() == {"kl": 0.0, "active_units": 0.0}
    metrics.reset()
    with pytest.raises(ValueError, match="at least 2 images, but got 0"):
        metrics.compute()


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, L\), but got \(4, 8\) and \(4, 7\)"):
        LatentMetrics().update(torch.zeros(4, 8), torch.zeros(4, 7))
