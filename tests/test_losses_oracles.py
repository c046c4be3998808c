"""Every number of a distance against scikit-image, torchmetrics, the library or a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import structural_similarity
from skimage.transform import resize

import losses
from losses.structural.distances import scale_weights


def photos(side: int, channels: int) -> torch.Tensor:
    """Two photos that ship with scikit-image, (2, channels, side, side)."""
    batch = [
        resize(image, (side, side), anti_aliasing=True) for image in (data.astronaut(), data.cat())
    ]
    x = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float()
    return x[:, :channels].contiguous()


def degraded(x: torch.Tensor) -> torch.Tensor:
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    return (0.8 * x + 0.1 + 0.2 * noise).clamp(0, 1)


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_scikit_images(side: int, channels: int) -> None:
    x = photos(side, channels)
    x_hat = degraded(x)
    expected = []
    for a, b in zip(x.double().numpy(), x_hat.double().numpy(), strict=True):
        _, ssim_map = structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        expected.append(1 - ssim_map[:, 5:-5, 5:-5].mean())
    found = losses.create("ssim")(x_hat, x)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("side", "scales"), [(32, 2), (64, 3), (128, 4), (176, 5)])
def test_ms_ssim_is_monais_metric(side: int, scales: int) -> None:
    from monai.metrics.regression import MultiScaleSSIMMetric

    x = photos(side, 3)
    x_hat = degraded(x)
    weights = scale_weights(side, 11)
    assert len(weights) == scales
    metric = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0, weights=weights)
    expected = 1 - metric._compute_tensor(x_hat, x).flatten()
    torch.testing.assert_close(losses.create("ms_ssim")(x_hat, x), expected, rtol=1e-4, atol=0)


IMAGES = {
    "random": lambda side, c: torch.rand(
        2, c, side, side, generator=torch.Generator().manual_seed(3)
    ),
    "smooth": lambda side, c: torch.linspace(0, 1, side).expand(2, c, side, side).contiguous(),
    "constant": lambda side, c: torch.full((2, c, side, side), 0.3),
    "real": photos,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssim", "kornia_ssim", "kornia_ms_ssim"])
@pytest.mark.parametrize("kind", sorted(IMAGES))
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (64, 1), (47, 3)])
def test_fast_backend_has_the_librarys_value_and_gradient(
    name: str, kind: str, side: int, channels: int
) -> None:
    x = IMAGES[kind](side, channels)
    results = []
    for backend in ("fast", "library"):
        x_hat = degraded(x).requires_grad_()
        d = losses.create(name, backend=backend)(x_hat, x)
        (gradient,) = torch.autograd.grad(d.sum(), x_hat)
        results.append((d.detach(), gradient))
    (fast, fast_gradient), (library, library_gradient) = results
    torch.testing.assert_close(fast, library, rtol=1e-4, atol=1e-7)
    error = (fast_gradient - library_gradient).norm() / library_gradient.norm()
    assert error < 1e-4


def test_kornia_ms_ssim_at_compensation_200_is_kornias_own_loss() -> None:
    from kornia.losses import MS_SSIMLoss

    x = photos(32, 3)
    x_hat = degraded(x)
    found = losses.create("kornia_ms_ssim", compensation=200)(x_hat, x).mean()
    torch.testing.assert_close(found, MS_SSIMLoss()(x_hat, x), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "closed_form"),
    [
        ("mse", {}, lambda r: r**2),
        ("l1", {}, lambda r: abs(r)),
        ("charbonnier", {"epsilon": 0.1}, lambda r: (r**2 + 0.01) ** 0.5 - 0.1),
        ("kornia_charbonnier", {"c": 0.5}, lambda r: ((r / 0.5) ** 2 + 1) ** 0.5 - 1),
        ("kornia_cauchy", {}, lambda r: np.log(r**2 / 2 + 1)),
        ("kornia_geman_mcclure", {}, lambda r: 2 * r**2 / (r**2 + 4)),
        ("kornia_welsch", {"c": 0.1}, lambda r: 1 - np.exp(-((r / 0.1) ** 2) / 2)),
    ],
)
def test_pixel_distances_have_their_closed_form(name: str, options: dict, closed_form) -> None:  # type: ignore[type-arg,no-untyped-def]
    x_hat = torch.full((1, 3, 16, 16), 0.75)
    x = torch.full((1, 3, 16, 16), 0.5)
    x[:, :, :8] = 0.75  # half of the pixels are right
    found = losses.create(name, **options)(x_hat, x).item()
    assert found == pytest.approx(closed_form(0.25) / 2, rel=1e-5)


@pytest.mark.parametrize(("level", "offset"), [(0.9, 0.05), (0.95, 0.01), (0.3, 0.05)])
@pytest.mark.parametrize(("name", "factor"), [("ssim", 1.0), ("kornia_ssim", 0.5)])
def test_ssim_of_flat_images_is_their_luminance(
    level: float, offset: float, name: str, factor: float
) -> None:
    a = torch.full((1, 3, 64, 64), level)
    b = torch.full((1, 3, 64, 64), level + offset)
    p, q = a[0, 0, 0, 0].double().item(), b[0, 0, 0, 0].double().item()
    expected = factor * (p - q) ** 2 / (p**2 + q**2 + 1e-4)
    assert losses.create(name)(b, a).item() == pytest.approx(expected, rel=2e-2)
