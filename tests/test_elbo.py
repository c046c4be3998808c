"""The scale of the reconstruction term and the KL, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

import losses
from losses.degree import LEAST_MEAN
from losses.elbo import ELBO, reconstruction_term
from losses.elbo import kl_divergence as kl_per_unit


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(5, 8), torch.randn(5, 8)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_unit(mean, log_variance), expected, rtol=1e-5, atol=1e-6)


def test_optimal_sigma_is_the_gaussian_likelihood_at_its_best_variance() -> None:
    x, x_hat = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    values = x[0].numel()
    sigma = torch.sqrt((x - x_hat).square().mean())
    likelihood = Independent(Normal(x_hat, sigma), 3).log_prob(x).mean()
    constant = values / 2 * (1 + math.log(2 * math.pi))
    distance = (x - x_hat).square().flatten(1).mean(1)
    found = reconstruction_term(distance, scale="optimal_sigma", values=values)
    torch.testing.assert_close(found, -likelihood - constant, rtol=1e-5, atol=1e-3)


def test_sum_and_mean_differ_by_the_number_of_values() -> None:
    distance = torch.tensor([0.1, 0.3])
    assert reconstruction_term(distance, scale="sum", values=192).item() == pytest.approx(38.4)
    assert reconstruction_term(distance, scale="mean", values=192).item() == pytest.approx(0.2)


def test_optimal_sigma_is_bounded_below_for_perfect_reconstructions() -> None:
    distance = torch.zeros(4, requires_grad=True)
    term = reconstruction_term(distance, scale="optimal_sigma", values=100)
    term.backward()
    assert term.item() == pytest.approx(50 * math.log(LEAST_MEAN))
    assert distance.grad is not None
    assert torch.isfinite(distance.grad).all()


def test_optimal_sigma_gradient_ignores_the_unit_of_the_distance() -> None:
    gradients = []
    for factor in (1.0, 100.0):
        distance = torch.tensor([0.01, 0.02], requires_grad=True)
        reconstruction_term(factor * distance, scale="optimal_sigma", values=48).backward()
        gradients.append(distance.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_loss_is_reconstruction_plus_weighted_kl() -> None:
    x, x_hat, mean, log_variance = (
        torch.rand(2, 3, 8, 8),
        torch.rand(2, 3, 8, 8),
        torch.randn(2, 4),
        torch.randn(2, 4),
    )
    elbo = ELBO(losses.create("mse"), scale="sum", beta=3.0)
    terms = elbo(x_hat, x, mean, log_variance, kl_weight=0.5)
    kl = kl_per_unit(mean, log_variance).sum(1).mean()
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(terms["reconstruction"], 192 * (x - x_hat).square().mean())
    torch.testing.assert_close(terms["nats"], terms["reconstruction"] + 1.5 * kl)
    torch.testing.assert_close(terms["loss"], terms["nats"] / 192)


def test_free_bits_charge_each_unit_at_least_their_amount() -> None:
    x = torch.rand(2, 3, 8, 8)
    mean = torch.tensor([[0.0, 2.0], [0.0, 2.0]], requires_grad=True)
    elbo = ELBO(losses.create("mse"), scale="sum", free_bits=0.5)
    terms = elbo(x, x, mean, torch.zeros(2, 2))
    assert terms["kl"].item() == pytest.approx(2.0)
    assert terms["nats"].item() == pytest.approx(2.5)
    terms["loss"].backward()
    assert mean.grad is not None
    assert (mean.grad[:, 0] == 0).all()
    assert (mean.grad[:, 1] != 0).all()


@pytest.mark.parametrize(
    "options", [{"scale": "median"}, {"beta": -1.0}, {"free_bits": -0.1}, {"beta": math.inf}]
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="but got"):
        ELBO(losses.create("mse"), **options)  # type: ignore[arg-type]


def test_kl_of_a_half_precision_posterior_is_computed_in_float32() -> None:
    x = torch.rand(64, 3, 8, 8)
    mean, log_variance = torch.randn(64, 32).bfloat16(), (0.1 * torch.randn(64, 32)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = ELBO(losses.create("mse"), scale="sum")(x, x, mean, log_variance)
    expected = kl_per_unit(mean.double(), log_variance.double()).sum(1).mean()
    torch.testing.assert_close(terms["kl"].double(), expected, rtol=1e-5, atol=0)
