"""What a loss can pay for, against closed forms, scikit-learn and linear VAEs that are trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from experiments.preflight.capacity import Capacity, capacity, gain
from losses.elbo import ELBO, kl_divergence
from losses.pixel import MSE

EIGENVALUES = np.array([4.0, 2.0, 1.0, 0.3, 0.1, 0.05, 0.02, 0.01])
VALUES = len(EIGENVALUES)


def predicted(
    units: int, *, scale: str, beta: float = 1.0, eigenvalues: NDArray[np.float64] = EIGENVALUES
) -> Capacity:
    """Of the squared error on a Gaussian with such a covariance."""
    values = len(eigenvalues)
    return capacity(
        eigenvalues[:units] / values,
        eigenvalues.sum() / values,
        scale=scale,
        values=values,
        beta=beta,
    )


class Linear:
    """A linear VAE on a Gaussian of known covariance; its loss is exact, without sampling.

    x ~ N(0, diag(EIGENVALUES)), z = A x + noise of variance exp(s), x_hat = W z.
    """

    def __init__(self, units: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = {"W": (VALUES, units), "A": (units, VALUES), "s": (units,)}
        self.parameters = {
            name: (0.3 * torch.randn(size, generator=generator, dtype=torch.float64))
            .requires_grad_()
            for name, size in shape.items()
        }  # fmt: skip

    def terms(self) -> tuple[Tensor, Tensor]:
        """Mean squared error and KL of each unit."""
        decode, encode, s = (self.parameters[name] for name in ("W", "A", "s"))
        covariance = torch.diag(torch.tensor(EIGENVALUES))
        residual = torch.eye(VALUES, dtype=torch.float64) - decode @ encode
        error = (residual @ covariance @ residual.T).trace() + (decode.square() @ s.exp()).sum()
        moments = (encode @ covariance @ encode.T).diagonal()
        return error / VALUES, kl_divergence(moments.sqrt(), s)

    def train(self, scale: str, beta: float) -> tuple[float, NDArray[np.float64]]:
        """To the optimum, by L-BFGS; returns the squared error and the KL of each unit."""
        optimizer = torch.optim.LBFGS(
            list(self.parameters.values()),
            max_iter=300,
            tolerance_grad=1e-7,
            tolerance_change=1e-11,
            history_size=30,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            error, kl = self.terms()
            reconstruction = {
                "sum": VALUES * error,
                "mean": error,
                "optimal_sigma": VALUES / 2 * error.log(),
            }[scale]
            loss: Tensor = reconstruction + beta * kl.sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            error, kl = self.terms()
        return float(error), kl.numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "beta", "active"),
    [
        ("sum", 1.0, 3),
        ("sum", 0.1, 5),
        ("sum", 20.0, 0),
        ("mean", 1.0, 0),
        ("mean", 0.1, 3),
        ("optimal_sigma", 1.0, 5),
        ("optimal_sigma", 2.0, 3),
        ("optimal_sigma", 3.0, 1),
    ],
)
def test_a_trained_linear_vae_has_the_units_and_the_kl_that_were_predicted(
    scale: str, beta: float, active: int
) -> None:
    expected = predicted(5, scale=scale, beta=beta)
    assert expected.active == active
    error, kl = Linear(5, seed=0).train(scale, beta)
    assert (kl > 0.01).sum() == active
    assert kl.sum() == pytest.approx(expected.kl, abs=0.02)
    assert error == pytest.approx(expected.distance, rel=0.01)


def test_the_elbo_of_the_analytic_optimum_has_the_predicted_terms() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4000, VALUES)) * EIGENVALUES**0.5)
    x = (x - x.mean(0)).float()
    eigenvalues, vectors = np.linalg.eigh(x.T.double().numpy() @ x.double().numpy() / len(x))
    eigenvalues, vectors = eigenvalues[::-1].copy(), vectors[:, ::-1].copy()
    expected = predicted(5, scale="sum", eigenvalues=eigenvalues)
    variance, kept = 0.5, eigenvalues[: expected.active]

    # Lucas et al. 2019: decoder U (eigenvalue - variance)^1/2, exact posterior.
    basis = torch.from_numpy(vectors[:, : expected.active]).float()
    gain = torch.from_numpy(np.sqrt(kept - variance)).float()
    mean = x @ basis * (gain / torch.from_numpy(kept).float())
    log_variance = torch.from_numpy(np.log(variance / kept)).float().expand_as(mean)
    z = mean + torch.randn(mean.shape) * (log_variance / 2).exp()
    images, x_hat = (t.view(-1, 1, 1, VALUES) for t in (x, z * gain @ basis.T))
    terms = ELBO(MSE(), scale="sum")(x_hat, images, mean, log_variance)

    assert terms["kl"].item() == pytest.approx(expected.kl, rel=1e-3)
    assert terms["distance"].item() == pytest.approx(expected.distance, rel=0.02)  # of the noise


def test_at_beta_1_the_optimal_variance_is_that_of_probabilistic_pca() -> None:
    x = np.random.default_rng(0).normal(size=(500, VALUES)) * EIGENVALUES**0.5
    pca = PCA(n_components=3).fit(x)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T)).astype(np.float64)[::-1]
    found = predicted(3, scale="optimal_sigma", eigenvalues=eigenvalues)
    assert found.active == 3
    assert found.distance == pytest.approx(pca.noise_variance_, rel=1e-9)
    nats = np.log(pca.explained_variance_ / pca.noise_variance_).sum() / 2
    assert found.kl == pytest.approx(nats, rel=1e-9)


def test_the_same_loss_at_another_scale_and_beta_affords_the_same() -> None:
    summed = predicted(5, scale="sum", beta=VALUES * 0.7)
    mean = predicted(5, scale="mean", beta=0.7)
    assert (summed.active, summed.kl, summed.distance) == (mean.active, mean.kl, mean.distance)


def test_optimal_sigma_does_not_see_the_unit_of_the_distance() -> None:
    explained = np.array([0.3, 0.1, 0.02])
    one = capacity(explained, 0.6, scale="optimal_sigma", values=100)
    hundred = capacity(100 * explained, 60, scale="optimal_sigma", values=100)
    assert (hundred.active, hundred.gain) == (one.active, one.gain)
    assert hundred.kl == pytest.approx(one.kl)
    assert hundred.distance == pytest.approx(100 * one.distance)


def test_gain_is_what_the_loss_falls_from_the_mean_image_to_perfection() -> None:
    x = torch.rand(16, 3, 8, 8)
    mean = x.mean(0, keepdim=True).expand_as(x)
    posterior = torch.zeros(16, 2)
    distance = float(MSE()(mean, x).mean())
    for scale in ("sum", "mean"):
        elbo = ELBO(MSE(), scale=scale)
        losses = [elbo(x_hat, x, posterior, posterior)["nats"].item() for x_hat in (mean, x)]
        expected = losses[0] - losses[1]
        assert gain(distance, scale=scale, values=192) == pytest.approx(expected, rel=1e-6)

    elbo = ELBO(MSE(), scale="optimal_sigma")
    halfway = x + (mean - x) / math.sqrt(2)  # half the squared error
    losses = [elbo(x_hat, x, posterior, posterior)["nats"].item() for x_hat in (mean, halfway)]
    expected = losses[0] - losses[1]
    assert gain(distance, scale="optimal_sigma", values=192) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", ["sum", "mean", "optimal_sigma"])
@pytest.mark.parametrize("beta", [0.01, 0.3, 1.0, 2.5, 10.0])
def test_no_loss_pays_for_more_kl_than_it_gains(scale: str, beta: float) -> None:
    found = predicted(5, scale=scale, beta=beta)
    if scale == "optimal_sigma":
        start = EIGENVALUES.sum() / VALUES
        most = VALUES / 2 * math.log(start / found.distance) / beta
    else:
        most = found.gain / beta
    assert found.kl <= most


@pytest.mark.parametrize("scale", ["sum", "mean", "optimal_sigma"])
def test_below_the_stated_beta_all_units_pay_and_above_it_not(scale: str) -> None:
    beta = predicted(5, scale=scale, beta=50.0).beta_for_all
    assert beta is not None
    assert predicted(5, scale=scale, beta=0.999 * beta).active == 5
    assert predicted(5, scale=scale, beta=1.001 * beta).active == 4
    assert predicted(5, scale=scale, beta=0.999 * beta).beta_for_all is None


def test_without_a_price_every_unit_is_active_and_without_bound() -> None:
    for scale in ("sum", "optimal_sigma"):
        found = predicted(5, scale=scale, beta=0.0)
        assert (found.active, found.kl) == (5, math.inf)


def test_images_that_the_units_can_hold_whole_end_at_the_floor() -> None:
    found = capacity([0.2, 0.1], 0.3, scale="optimal_sigma", values=100)
    assert found.active == 2
    assert 0 < found.distance < 1e-6
    assert math.isfinite(found.kl)


@pytest.mark.parametrize("exponent", [0.25, 0.5, 2.0])
def test_optimal_sigma_does_not_see_an_exponent_of_the_distance(exponent: float) -> None:
    left = EIGENVALUES.sum() - np.concatenate([[0.0], EIGENVALUES[:5].cumsum()])
    options: dict[str, Any] = {"scale": "optimal_sigma", "values": VALUES, "beta": 2.0}
    one = capacity(-np.diff(left), left[0], **options)
    powers = left**exponent
    found = capacity(-np.diff(powers), powers[0], degree=2 * exponent, **options)
    assert found.active == one.active
    assert found.kl == pytest.approx(one.kl)
    assert found.distance == pytest.approx(one.distance**exponent)
    assert found.beta_for_all == pytest.approx(one.beta_for_all)
    assert found.gain * exponent == pytest.approx(one.gain)  # of halving the one or the other


def test_free_bits_keep_every_unit_active_at_their_cost() -> None:
    found = capacity(
        EIGENVALUES[:5] / VALUES, 1.0, scale="mean", values=VALUES, beta=1.0, free_bits=0.5
    )
    assert (found.active, found.kl, found.beta_for_all) == (5, 2.5, None)


def test_without_components_nothing_is_active() -> None:
    found = capacity([], 0.5, scale="sum", values=10)
    assert (found.active, found.kl, found.distance, found.beta_for_all) == (0, 0.0, 0.5, None)


@pytest.mark.parametrize(
    ("explained", "start", "options", "message"),
    [
        ([-0.1], 1.0, {"scale": "sum"}, "`explained` must be"),
        ([math.nan], 1.0, {"scale": "sum"}, "`explained` must be"),
        ([0.1], 0.0, {"scale": "sum"}, "`mean_distance` must be above 0"),
        ([0.1], 1.0, {"scale": "sum", "beta": -1.0}, "`beta` 0 or more, but got 1.0 and -1.0"),
        ([0.1], 1.0, {"scale": "median"}, "`loss.scale` must be one of"),
    ],
)
def test_numbers_out_of_range_are_refused(
    explained: list[float], start: float, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        capacity(explained, start, values=10, **options)  # type: ignore[arg-type]
