"""Samples have no mesh: no more power at the periods of the decoder's upsampling than around."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from experiments import building
from experiments.scoring.checkpoint import load_weights
from experiments.scoring.evaluation import draw_samples
from experiments.trial import run_trial
from models.conv import UpsamplingConv
from tests.conftest import Compose
from tests.meshes import mesh, meshed


def test_what_the_measure_says_of_noise_and_of_a_grid() -> None:
    torch.manual_seed(0)
    noise = torch.rand(64, 3, 32, 32)
    assert mesh(noise) == pytest.approx([1, 1, 1], abs=0.1)
    grid = noise.clone()
    grid[..., ::4, :] += 0.3
    assert mesh(grid)[1] > 2
    assert mesh(meshed(noise, (3.3, 2.5, 2.3))) == pytest.approx([3.3, 2.5, 2.3], rel=0.1)


def test_an_upsampling_convolution_is_that_of_repeated_pixels() -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        layer, x = UpsamplingConv(3, 5, bias=bias), torch.randn(2, 3, 6, 8)
        repeated = F.interpolate(x, scale_factor=2, mode="nearest")
        expected = F.conv2d(repeated, layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.slow
@pytest.mark.trains
def test_samples_of_a_trained_model_have_no_mesh(compose: Compose, tmp_path: Path) -> None:
    worst = {}
    for upsampling in ("nearest", "transposed"):
        config = compose(
            "data.size=64", "data.count=400", "model.width=8", f"model.upsampling={upsampling}",
            "latent_dim=16", "batch_size=32", "max_epochs=8", "lr=3e-3", "logger=none",
            "trainer.progress=false", "evaluation.samples=64",
        )  # fmt: skip
        run_trial(config, tmp_path / upsampling, in_sweep=True)
        network = building.build_network(config, (3, 64, 64)).eval()
        load_weights(network, tmp_path / upsampling / "checkpoints" / "best.ckpt")
        worst[upsampling] = max(mesh(draw_samples(network, 256, seed=0, device="cpu")))
    assert worst["nearest"] <= 1.3
    assert worst["transposed"] > worst["nearest"]
