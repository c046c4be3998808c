"""The degree of a distance, and what it makes of the scale: against closed forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, Normal

import losses
from losses.degree import LEAST_DEGREE, measure
from losses.distance import Distance
from losses.elbo import ELBO, reconstruction_term
from tests.powers import power

NAMED = sorted(set(losses.DISTANCES) - {"custom"})
SHAPE = (4, 3, 32, 32)
VALUES = 3 * 32 * 32


class Power(Distance):
    """As a user's own loss: nobody says of which degree it is."""

    def __init__(self, **options: float) -> None:
        super().__init__()
        self._options = options

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return power(x_hat, x, **self._options)


class Other(Distance):
    """Any function of two batches."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        d: Tensor = self._function(x_hat, x)
        return d


def pair(noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Reconstructions and images, smooth enough for structure."""
    x = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=32, mode="bilinear")
    return (x + noise * torch.randn(SHAPE)).clamp(0.01, 0.99), x


def gradient(elbo: ELBO, x_hat: Tensor, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Of the loss by the reconstructions, times N; the posterior is the prior."""
    leaf = x_hat.clone().requires_grad_()
    prior = torch.zeros(len(x), 2)
    terms = elbo(leaf, x, prior, prior)
    (found,) = torch.autograd.grad(terms["loss"], leaf)
    return VALUES * found, terms


@pytest.mark.parametrize(("name", "family"), [("mse", Normal), ("l1", Laplace)])
def test_the_scale_is_the_likelihood_at_its_best_width(name: str, family: Any) -> None:
    x_hat, x = pair()
    distance = losses.create(name)(x_hat, x)
    degree = losses.create(name).degree
    assert degree is not None
    best = distance.mean() ** (1 / degree)
    other = math.log(math.sqrt(2 * math.pi * math.e)) if name == "mse" else math.log(2 * math.e)
    nats = -family(x_hat, best).log_prob(x).flatten(1).sum(1).mean()
    found = reconstruction_term(distance, scale="optimal_sigma", values=VALUES, degree=degree)
    torch.testing.assert_close(found + VALUES * other, nats, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("name", NAMED)
def test_what_a_distance_declares_is_what_is_measured(name: str) -> None:
    distance = losses.create(name)
    measured = measure(distance, *pair())
    assert measured.held == 0
    if distance.degree is not None:
        assert measured.degree.item() == pytest.approx(distance.degree, rel=1e-4)
    else:
        assert 0.85 < measured.degree < 2.4


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("factor", [1e-6, 1.0, 200.0])
def test_a_power_has_its_exponent_and_a_factor_none(
    norm: float, exponent: float, factor: float
) -> None:
    own = Power(norm=norm, exponent=exponent, factor=factor)
    assert measure(own, *pair()).degree.item() == pytest.approx(norm * exponent, rel=1e-3)


def test_multiples_and_sums_of_one_degree_declare_it_and_others_do_not() -> None:
    assert losses.create("mix", terms=["l1"], weights=[7]).degree == 1
    assert losses.create("mix", terms=["mse", "mse"], weights=[1, 2]).degree == 2
    assert losses.create("mix", terms=["mse", "l1"], weights=[1, 1]).degree is None
    assert losses.create("kornia_ms_ssim", alpha=0).degree == 1
    assert losses.create("kornia_ms_ssim").degree is None


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_under_any_loss_shrinking_all_residuals_is_worth_the_same(name: str, noise: float) -> None:
    x_hat, x = pair(noise)
    slope, _ = gradient(ELBO(losses.create(name)), x_hat, x)
    assert (slope * (x_hat - x)).sum().item() / VALUES == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("options", [{"factor": 100}, {"factor": 1e-9}, {"exponent": 0.5},
                                     {"exponent": 2}, {"exponent": 3, "factor": 7}])  # fmt: skip
@pytest.mark.parametrize("norm", [1, 2])
def test_neither_factor_nor_exponent_changes_the_gradient_of_an_image(
    norm: int, options: dict[str, float]
) -> None:
    x_hat, x = pair()
    expected, _ = gradient(ELBO(losses.create("mse" if norm == 2 else "l1")), x_hat[:1], x[:1])
    found, _ = gradient(ELBO(Power(norm=norm, **options)), x_hat[:1], x[:1])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6 * expected.abs().max().item())


def test_an_exponent_weighs_the_images_of_a_batch_and_nothing_else() -> None:
    x_hat, x = pair()
    x_hat[0] = x[0] + 3 * (x_hat[0] - x[0])
    one, _ = gradient(ELBO(losses.create("mse")), x_hat, x)
    squared, _ = gradient(ELBO(Power(exponent=2)), x_hat, x)
    d = losses.create("mse")(x_hat, x)
    weight = d * d.sum() / d.square().sum()  # of each image, beside the one it has
    torch.testing.assert_close(squared, one * weight.view(-1, 1, 1, 1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ssim", "mix", "charbonnier"])
def test_the_gradient_is_that_of_autograd_at_the_measured_degree(name: str) -> None:
    x_hat, x = pair()
    found, terms = gradient(ELBO(losses.create(name)), x_hat, x)
    leaf = x_hat.clone().requires_grad_()
    term = reconstruction_term(
        losses.create(name)(leaf, x),
        scale="optimal_sigma",
        values=VALUES,
        degree=terms["degree"].item(),
    )
    (expected,) = torch.autograd.grad(term, leaf)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms["reconstruction"].detach(), term.detach())


def test_it_is_measured_where_no_gradient_is_wanted() -> None:
    x_hat, x = pair()
    elbo, prior = ELBO(losses.create("ssim")), torch.zeros(4, 2)
    expected = elbo(x_hat, x, prior, prior)
    with torch.inference_mode():
        inferred = elbo(x_hat.clone(), x.clone(), prior, prior)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = elbo(x_hat, x, prior, prior)
    for name, value in expected.items():
        torch.testing.assert_close(inferred[name], value)
        torch.testing.assert_close(mixed[name], value)


def test_a_scaled_loss_has_the_scaled_gradient() -> None:
    x_hat, x = pair()
    elbo, prior = ELBO(losses.create("ssim")), torch.zeros(4, 2)
    leaf = x_hat.clone().requires_grad_()
    (2.0**16 * elbo(leaf, x, prior, prior)["loss"]).backward()  # as mixed precision does
    expected, _ = gradient(elbo, x_hat, x)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad * VALUES / 2**16, expected)


def test_a_small_term_leaves_the_scale_of_the_large_one() -> None:
    x_hat, x = pair()
    expected, _ = gradient(ELBO(losses.create("mse")), x_hat, x)
    mix = losses.create("mix", terms=["mse", "ssim"], weights=[1, 1e-6])
    found, terms = gradient(ELBO(mix), x_hat, x)
    assert terms["degree"].item() == pytest.approx(2, rel=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize(
    "distance",
    [*(losses.create(name) for name in NAMED), Power(exponent=0.5), Power(norm=1, exponent=0.5)],
    ids=[*NAMED, "root of mse", "root of l1"],
)
@pytest.mark.parametrize("same", [1, 4])
def test_identical_images_stay_finite(distance: Distance, same: int) -> None:
    x_hat, x = pair()
    x_hat[:same] = x[:same]
    slope, terms = gradient(ELBO(distance), x_hat, x)
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(slope).all()
    assert (slope[same:] != 0).any() == (same < 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda x_hat, x: -(x_hat - x).square().flatten(1).mean(1),
        lambda x_hat, x: 0 * x_hat.flatten(1).sum(1),
        lambda x_hat, x: 1e-38 * (x_hat - x).square().flatten(1).mean(1),
        lambda x_hat, x: 1 / (x_hat - x).square().flatten(1).mean(1),
        lambda x_hat, x: 1 - (-((x_hat - x) / 1e-4).square()).exp().flatten(1).mean(1),
        lambda x_hat, x: 1 + 1e-3 * (x_hat - x).square().flatten(1).mean(1),
    ],
    ids=["negative", "zero", "tiny", "falling", "saturated", "constant"],
)
def test_what_is_no_distance_stays_finite_and_is_noticed(function: Any) -> None:
    slope, terms = gradient(ELBO(Other(function)), *pair())
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(slope).all()
    assert terms["degree_held"] == 1
    assert terms["degree"] >= LEAST_DEGREE


def test_identical_images_have_no_degree_to_be_warned_of() -> None:
    _, x = pair()
    for distance in (losses.create("ssim"), Power(exponent=0.5)):
        _, terms = gradient(ELBO(distance), x.clone(), x)
        assert terms["degree_held"] == 0
        assert terms["degree"] == 2


def test_a_distance_that_is_constant_on_a_batch_gives_no_gradient() -> None:
    constant = Other(lambda x_hat, x: torch.full((len(x),), 0.3))
    apart = Other(lambda x_hat, x: x.flatten(1).mean(1).clone().requires_grad_())
    for distance in (constant, apart):
        slope, terms = gradient(ELBO(distance), *pair())
        assert (slope == 0).all()
        assert torch.isfinite(terms["loss"])


def test_in_validation_the_degree_is_that_of_a_part() -> None:
    x_hat, x = (torch.cat([images] * 20) for images in pair())
    elbo, prior = ELBO(losses.create("ssim")), torch.zeros(80, 2)
    with torch.no_grad():
        validated = elbo(x_hat, x, prior, prior)
    trained = elbo(x_hat.requires_grad_(), x, prior, prior)
    for name in ("distance", "degree", "loss"):
        torch.testing.assert_close(validated[name], trained[name].detach())


def test_nan_is_not_hidden() -> None:
    _, terms = gradient(ELBO(Other(lambda x_hat, x: x_hat.flatten(1).sum(1) * math.nan)), *pair())
    assert terms["loss"].isnan()


def test_below_the_floor_nothing_is_paid_for_whatever_the_unit() -> None:
    x_hat, x = pair(1e-4)
    for factor in (1.0, 1e6):
        slope, terms = gradient(ELBO(Power(factor=factor)), x_hat, x)
        assert (slope == 0).all()
        assert torch.isfinite(terms["loss"])
    x_hat, x = pair(1e-2)
    for factor in (1e-9, 1.0):
        slope, _ = gradient(ELBO(Power(factor=factor)), x_hat, x)
        assert (slope != 0).any()


def test_a_degree_that_is_given_counts_instead_and_two_is_the_scale_of_old() -> None:
    x_hat, x = pair()
    given, terms = gradient(ELBO(losses.create("l1"), degree=2), x_hat, x)
    declared, _ = gradient(ELBO(losses.create("l1")), x_hat, x)
    torch.testing.assert_close(given, declared / 2)
    d = losses.create("l1")(x_hat, x).mean()
    assert terms["reconstruction"].item() == pytest.approx(VALUES / 2 * d.log().item())


@pytest.mark.parametrize("degree", ["two", 0, -1, math.inf, math.nan, True, None])
def test_a_degree_that_is_none_is_refused(degree: Any) -> None:
    with pytest.raises(ValueError, match=r"`loss.degree` must be auto or a number above 0, but"):
        ELBO(losses.create("l1"), degree=degree)


@pytest.mark.parametrize("side", [16, 32])
def test_gradients_are_of_one_size_whatever_that_of_the_images(side: int) -> None:
    x = torch.rand(4, 3, side, side)
    x_hat = x + 0.1
    prior = torch.zeros(4, 2)
    for scale, expected in (("optimal_sigma", 10.0), ("sum", 0.2), ("mean", 0.2)):
        leaf = x_hat.clone().requires_grad_()
        ELBO(losses.create("mse"), scale=scale)(leaf, x, prior, prior)["loss"].backward()
        assert leaf.grad is not None
        assert leaf.grad.sum().item() == pytest.approx(expected, rel=1e-3)
