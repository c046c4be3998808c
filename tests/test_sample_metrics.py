"""Sample metrics against SciPy, NumPy and closed forms, and on what they are to see in photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg, stats
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.data.batches import Batches
from experiments.metrics.features import feature_distances
from experiments.metrics.samples import laplacian_swd, sliced_wasserstein
from experiments.scoring.checkpoint import some_of
from tests.meshes import meshed
from tests.words import trusting

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


def test_sliced_wasserstein_of_one_pixel_images_is_scipys_wasserstein_distance() -> None:
    """In one dimension every direction is +1 or -1, so slicing changes nothing."""
    generator = np.random.default_rng(0)
    for n, m in ((20, 20), (7, 12), (1, 5), (31, 4)):
        a, b = generator.random(n, dtype=np.float32), generator.random(m, dtype=np.float32)
        both = (torch.from_numpy(values).reshape(-1, 1, 1, 1) for values in (a, b))
        distance = sliced_wasserstein(*both, projections=3, order=1)
        assert distance == pytest.approx(stats.wasserstein_distance(a, b), rel=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_sliced_wasserstein_agrees_with_slicing_in_numpy(order: int) -> None:
    generator = np.random.default_rng(1)
    a, b = generator.random((40, 12)), generator.random((40, 12)) ** 2
    directions = generator.standard_normal((4000, 12))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    gaps = np.sort(a @ directions.T, axis=0) - np.sort(b @ directions.T, axis=0)
    expected = (np.abs(gaps) ** order).mean() ** (1 / order)
    both = (torch.from_numpy(values).float().reshape(40, 3, 2, 2) for values in (a, b))
    distance = sliced_wasserstein(*both, projections=4000, order=order)
    assert distance == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 16, 16), (3, 48, 48)])
def test_sliced_wasserstein_of_a_shift_counts_the_the_same_at_every_size(
    shape: tuple[int, int, int],
) -> None:
    a = torch.rand(10, *shape, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(a, a + 0.25, projections=4000) == pytest.approx(0.25, rel=0.05)


def test_sliced_wasserstein_of_gaussians_has_the_closed_form() -> None:
    """N(0, I) and N(0, 4 I): every projection is N(0, 1) against N(0, 2^2), W2 = 1."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(20000, 1, 2, 2, generator=generator)
    b = 2 * torch.randn(15000, 1, 2, 2, generator=generator)
    assert sliced_wasserstein(a, b, projections=64) == pytest.approx(1.0, abs=0.03)


def test_sliced_wasserstein_is_a_seeded_distance() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(9, 1, 8, 8), torch.rand(5, 1, 8, 8)
    assert sliced_wasserstein(a, a.flip(0)) < 1e-6
    assert sliced_wasserstein(a, b) == sliced_wasserstein(a, b) > 0
    assert sliced_wasserstein(a, b) == pytest.approx(sliced_wasserstein(b, a), rel=1e-6)
    assert sliced_wasserstein(a, b) != sliced_wasserstein(a, b, seed=1)
    assert sliced_wasserstein(a, b) == pytest.approx(
        sliced_wasserstein(a, torch.cat([b, b])), rel=1e-6
    )  # the same distribution, more images


def test_sliced_directions_in_blocks_give_what_they_give_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = torch.rand(6, 3, 8, 8), torch.rand(6, 3, 8, 8)
    at_once = sliced_wasserstein(a, b, projections=100)
    monkeypatch.setattr("experiments.metrics.samples._BLOCK", 192 * 16)
    assert sliced_wasserstein(a, b, projections=100) == pytest.approx(at_once, rel=1e-5)


def test_bad_arguments_of_sliced_wasserstein_are_refused() -> None:
    a = torch.rand(4, 3, 8, 8)
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein(a, torch.rand(4, 3, 8, 9))
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein(a, a[:0])
    with pytest.raises(ValueError, match="floats"):
        sliced_wasserstein(a, (a * 255).int())
    with pytest.raises(ValueError, match="`order` must be 1 or 2, but got 3"):
        sliced_wasserstein(a, a, order=3)
    with pytest.raises(ValueError, match="`projections` must be at least 1, but got 0"):
        sliced_wasserstein(a, a, projections=0)


def blurred(images: Tensor, times: int) -> Tensor:
    """Shrunk so many times, and back."""
    small = F.interpolate(images, scale_factor=1 / times, mode="area")
    return F.interpolate(small, size=images.shape[-2:], mode="bilinear")


def noisy(images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


SPOILED: dict[str, Callable[[Tensor], Tensor]] = {
    "4 times blurred": lambda images: blurred(images, 4),
    "8 times blurred": lambda images: blurred(images, 8),
    "noise of 0.1": noisy,
    "a mesh": lambda images: meshed(images, (3.3, 2.5, 2.3)),
}


@pytest.fixture(scope="module")
def halves(photos: Path) -> tuple[Tensor, Tensor]:
    """Two halves of the real photos, 64x64."""
    pixels = []
    for path in sorted((photos / "cats_raw").glob("*.jpg")):
        with Image.open(path) as image:
            pixels.append(np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX)))
    images = torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return images[::2], images[1::2]


@pytest.fixture(scope="module")
def among_real(halves: tuple[Tensor, Tensor]) -> float:
    return laplacian_swd(*halves)


@pytest.mark.slow
@pytest.mark.parametrize("how", SPOILED)
def test_real_photos_are_nearer_to_others_than_spoiled_ones(
    halves: tuple[Tensor, Tensor], among_real: float, how: str
) -> None:
    other, real = halves
    assert laplacian_swd(SPOILED[how](other), real) > 5 * among_real


def test_laplacian_swd_of_no_detail_and_of_twice_as_much() -> None:
    """Of Gaussians: a patch that has nothing is E|N(0, 1)| = 0.80 away, and so is a doubled one."""
    real = torch.randn(60, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5
    expected = pytest.approx((2 / np.pi) ** 0.5, rel=0.05)
    assert laplacian_swd(torch.full((9, 3, 64, 64), 0.5), real) == expected
    assert laplacian_swd(2 * real - 0.5, real) == expected


def test_laplacian_swd_repeats_and_takes_images_of_every_shape() -> None:
    torch.manual_seed(0)
    for shape in ((1, 28, 28), (3, 32, 32), (3, 65, 40), (3, 7, 9)):
        a, b = torch.rand(6, *shape), torch.rand(9, *shape) ** 2
        assert laplacian_swd(a, a) < 1e-6
        assert laplacian_swd(a, b) == laplacian_swd(a, b) > 0
        assert laplacian_swd(torch.zeros_like(a), torch.zeros_like(b)) == 0


def test_bad_arguments_of_laplacian_swd_are_refused() -> None:
    a = torch.rand(4, 3, 8, 8)
    with pytest.raises(ValueError, match="one shape"):
        laplacian_swd(a, torch.rand(4, 3, 8, 9))
    with pytest.raises(ValueError, match="7 pixels or more a side, but got 6x8"):
        laplacian_swd(a[..., :6, :], a[..., :6, :])
    with pytest.raises(ValueError, match="`patches` must be at least 1, but got 0"):
        laplacian_swd(a, a, patches=0)
    with pytest.raises(ValueError, match="floats"):
        laplacian_swd(a, (a * 255).int())


class Means(nn.Module):
    """Mean of each channel in each quarter of the image: 4 C features."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.uint8:
            raise RuntimeError("want uint8")
        return nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)


class Detector(nn.Module):
    """As NVIDIA's: probabilities, unless features are asked for."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        features = nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)
        return features if return_features else torch.softmax(features, 1)


class FeatureMap(nn.Module):
    """Gives no features (B, F)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


class WantsFloat(nn.Module):
    """Breaks the contract on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.convolution(x).mean((2, 3))
        return features


@pytest.fixture(autouse=True)
def _trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, str(tmp_path))


Script = Callable[[nn.Module], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Saves a network as a TorchScript file."""

    def save(network: nn.Module) -> Path:
        path = tmp_path / f"{type(network).__name__}.pt"
        torch.jit.script(network).save(str(path))
        return path

    return save


def sets(channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (80, channels, 16, 16), generator=generator)
    generated = torch.randint(40, 200, (60, channels, 16, 16), generator=generator)
    return real.byte(), generated.byte()


def test_fid_and_kid_have_their_closed_forms(script: Script) -> None:
    real, generated = sets()
    distances = feature_distances(real, generated, script(Means()))
    a, b = (Means()(part).double().numpy() for part in (real, generated))
    covariances = [np.cov(features, rowvar=False) for features in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    fid = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * root
    )
    assert distances["fid"] == pytest.approx(fid, rel=1e-3)
    assert distances["kid"] == pytest.approx(unbiased_mmd(a, b), rel=0.25)


def unbiased_mmd(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    def kernel(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((u @ v.T / u.shape[1] + 1) ** 3)

    def off_diagonal_mean(k: NDArray[np.float64]) -> float:
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    within = off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b))
    return within - 2 * float(kernel(a, b).mean())


def test_a_set_and_itself_are_at_no_distance(script: Script) -> None:
    real, _ = sets()
    distances = feature_distances(real, real, script(Means()))
    assert distances["fid"] == pytest.approx(0, abs=1e-5)
    assert abs(distances["kid"]) < 1e-3


def test_fid_and_kid_repeat_and_leave_the_random_stream_alone(script: Script) -> None:
    path = script(Means())
    real, generated = sets()
    before = torch.random.get_rng_state()
    first = feature_distances(real, generated, path)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(3)
    assert feature_distances(real, generated, path) == first


def test_grey_images_are_repeated_to_three_channels(script: Script) -> None:
    path = script(Means())
    real, generated = sets(channels=1)
    colour = (real.repeat(1, 3, 1, 1), generated.repeat(1, 3, 1, 1))
    grey = feature_distances(real, generated, path)
    assert grey == pytest.approx(feature_distances(*colour, path))
    assert grey["fid"] > 0


def test_two_images_are_enough_for_fid_and_kid(script: Script) -> None:
    real, generated = sets()
    distances = feature_distances(real[:2], generated[:2], script(Means()))
    assert all(np.isfinite(value) for value in distances.values())


def test_a_detector_is_asked_for_its_features(script: Script) -> None:
    real, generated = sets()
    asked = feature_distances(real, generated, script(Detector()))
    assert asked == feature_distances(real, generated, script(Means()))


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        feature_distances(*sets(), tmp_path / "none.pt")
    with pytest.raises(ValueError, match="is not a file"):
        feature_distances(*sets(), tmp_path)
    text, weights = tmp_path / "text.pt", tmp_path / "weights.pt"
    text.write_text("not a network")
    torch.save({"weight": torch.zeros(3)}, weights)
    for path in (text, weights):
        with pytest.raises(ValueError, match=r"must be a TorchScript file, but .* cannot be"):
            feature_distances(*sets(), path)


@pytest.mark.parametrize(
    ("network", "message"),
    [(FeatureMap(), r"gave \(64, 3, 16, 16\) for a batch of 64"), (WantsFloat(), "failed: .*")],
)
def test_a_network_of_another_contract_is_refused(
    script: Script, network: nn.Module, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"uint8 images .* to features \(B, F\).*{message}"):
        feature_distances(*sets(), script(network))


def test_floats_single_images_and_different_shapes_are_refused(script: Script) -> None:
    path = script(Means())
    real, generated = sets()
    with pytest.raises(ValueError, match="uint8"):
        feature_distances(real / 255, generated, path)
    with pytest.raises(ValueError, match="2 images or more, but got 1"):
        feature_distances(real, generated[:1], path)
    with pytest.raises(ValueError, match="one shape"):
        feature_distances(real, generated[:, :1], path)


def test_images_of_8_bits_are_as_far_apart_as_their_values() -> None:
    both = [torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8) for n in (300, 140)]
    floats = [images / 255 for images in both]
    assert sliced_wasserstein(*both) == pytest.approx(sliced_wasserstein(*floats), rel=1e-6)
    assert laplacian_swd(*both) == pytest.approx(laplacian_swd(*floats), rel=1e-6)


@pytest.mark.parametrize(("most", "step"), [(2**28, 1), (10 * 192, 3), (192, 23)])
def test_of_a_large_split_some_images_are_taken_evenly(
    monkeypatch: pytest.MonkeyPatch, most: int, step: int
) -> None:
    monkeypatch.setattr("experiments.scoring.checkpoint._MOST_BYTES", most)
    images = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    split = Batches(
        images.numpy(), range(7, 30), batch_size=5, shuffle=False, seed=0, drop_last=False
    )
    assert some_of(split)[:, 0, 0, 0].tolist() == list(range(7, 30, step))
