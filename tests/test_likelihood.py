"""The held-out ELBO: a bound on the probability of 8-bit images that no loss can choose."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from experiments.scoring.evaluation import evaluate
from losses.likelihood import bits_per_dim, elbo
from models.network import Network

VALUES = 3 * 16 * 16


def images(deviation: float, count: int = 64) -> torch.Tensor:
    """8-bit images of Gaussian noise around grey."""
    noise = torch.randn(count, 3, 16, 16)
    return (128 + 255 * deviation * noise).round().clamp(0, 255)


@pytest.mark.parametrize("deviation", [0.003, 0.01, 0.1])
def test_it_is_a_bound_on_the_probability_of_8_bit_values_and_a_tight_one(deviation: float) -> None:
    x = images(deviation)
    error = ((x - 128) / 255).square().mean().item()
    density = Normal(0.0, 255 * math.sqrt(error + 1 / 255**2 / 12))
    exact = (density.cdf(x - 128 + 0.5) - density.cdf(x - 128 - 0.5)).double().log()
    nats = exact.flatten(1).sum(1).mean().item()
    bound = elbo(error, kl=0.0, values=VALUES)
    assert bound < nats
    assert bound == pytest.approx(nats, rel=0.05)


def test_kl_is_paid_nat_by_nat_and_bits_are_nats_of_a_value() -> None:
    assert elbo(0.01, 30.0, VALUES) == pytest.approx(elbo(0.01, 0.0, VALUES) - 30)
    bits = -elbo(0.01, 30.0, VALUES) / math.log(2) / VALUES
    assert bits_per_dim(0.01, 30.0, VALUES) == pytest.approx(bits)


def test_no_error_is_small_enough_to_make_it_unbounded() -> None:
    assert 0 < bits_per_dim(0.0, 0.0, VALUES) < 0.5
    wrong = bits_per_dim(1 / 12, 0.0, VALUES)  # of a uniform guess around grey
    assert 8 < wrong < 8.3


class Noisy(Network):
    """Decodes the first latent as the level of the whole image; its posterior has a deviation."""

    def __init__(self, log_variance: float) -> None:
        super().__init__((3, 16, 16), 2)
        self._log_variance = log_variance

    def posterior_parameters(self, x: torch.Tensor) -> torch.Tensor:
        mean = torch.logit(x.flatten(1).mean(1, keepdim=True).clamp(1e-3, 1 - 1e-3)).repeat(1, 2)
        return torch.cat([mean, torch.full_like(mean, self._log_variance)], 1)

    def decode_logits(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :1, None, None].expand(-1, 3, 16, 16)


def test_the_bound_is_of_samples_of_the_posterior_and_the_other_metrics_are_not() -> None:
    batches = list(images(0.05).to(torch.uint8).split(40))
    sure, unsure = (evaluate(Noisy(v), batches, "cpu").metrics for v in (-20.0, 0.0))
    assert unsure["psnr"] == pytest.approx(sure["psnr"])
    assert unsure["mse"] == pytest.approx(sure["mse"])
    free = elbo(sure["mse"], sure["kl"], VALUES)
    assert sure["elbo"] == pytest.approx(free, rel=1e-4)
    assert unsure["elbo"] + unsure["kl"] < sure["elbo"] + sure["kl"] - 100
    assert unsure["bits_per_dim"] == pytest.approx(-unsure["elbo"] / VALUES / math.log(2))


def test_its_noise_is_its_own_and_the_same_every_time() -> None:
    batches = list(images(0.05, 8).to(torch.uint8).split(4))
    before = torch.get_rng_state()
    first, again = (evaluate(Noisy(0.0), batches, "cpu").metrics for _ in range(2))
    assert first == again
    assert torch.equal(torch.get_rng_state(), before)
