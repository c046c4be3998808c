"""At the same KL a loss and the same loss times 100 tie, and a better one wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from torch import Tensor

from analysis.rate_distortion import RateDistortion, common_range, curve, rate_distortion
from analysis.runs import Design
from decisions import nominal_levels
from tests.conftest import Compose
from tests.planted import Planted, runs
from tests.words import trusting

EIGENVALUES = 0.05 * 0.8 ** np.arange(24)
"""Of the covariance of the images; the other values of each are the same in all images."""
VALUES = 300
BETAS = np.geomspace(2e-3, 5e-2, 6).tolist()


def hundredfold(x_hat: Tensor, x: Tensor) -> Tensor:
    """A loss for `loss.target`: the squared error times 100."""
    return 100 * (x_hat - x).square().flatten(1).mean(dim=1)


def linear_vae(beta: float, weight: float) -> tuple[float, float]:
    """KL and PSNR of the best linear VAE under `weight` times the summed squared error.

    The decoder's implied variance is beta / (2 weight), and units are in use whose eigenvalue is
    above it: reverse water-filling (Cover and Thomas, theorem 10.3.3; Lucas et al. 2019).
    """
    water = beta / (2 * weight)
    active = EIGENVALUES[water < EIGENVALUES]
    kl = 0.5 * np.log(active / water).sum()
    error = np.minimum(EIGENVALUES, water).sum() / VALUES
    return float(kl), float(-10 * np.log10(error))


def trained(
    loss: str,
    betas: Sequence[float],
    weight: float = 1.0,
    gain: float = 0.0,
    seeds: int = 3,
    of: int = 0,
) -> list[Planted]:
    """Linear VAEs, with what a seed does to all losses and a little more of each training."""
    random = np.random.default_rng([of, *loss.encode()])
    luck = 0.05 * np.random.default_rng(of).normal(size=seeds)  # which the losses share
    found = []
    for beta in betas:
        kl, psnr = linear_vae(beta, weight)
        for seed in range(seeds):
            noise = luck[seed] + 0.01 * random.normal()
            more = {"beta": beta, "val/kl": kl, "val/psnr": psnr + gain + noise}
            found.append(Planted(loss, seed, more=more))
    return found


def compared(*trials: list[Planted]) -> RateDistortion:
    return rate_distortion(
        runs(
            [one for several in trials for one in several],
            searched=("loss.name", "beta"),
            designs={"cats": Design(("loss.name",), 3)},
        )
    )


def test_a_loss_and_the_same_times_100_tie_at_other_betas() -> None:
    scaled = trained("custom", np.geomspace(0.1, 3, 5).tolist(), weight=100)
    found = compared(trained("mse", BETAS), scaled)
    (row,) = found.pairs.itertuples()
    assert row.finding == "equal"
    assert max(abs(row.low), abs(row.high)) < 0.05, "seeds are paired"
    assert found.verdict[0].startswith("at the same KL, ")
    assert "mse and custom are practically equal on PSNR" in found.verdict[0]


def test_the_interval_is_students_of_the_differences_seed_by_seed() -> None:
    """On a straight line the average over the common KLs is the value in their middle."""
    random = np.random.default_rng(0)
    values = {loss: 20 + random.normal(size=3) for loss in ("mse", "l1")}
    trials = [
        Planted(loss, seed, more={"beta": kl, "val/kl": kl, "val/psnr": values[loss][seed] + kl})
        for loss in values for seed in range(3) for kl in (10.0, 20.0)
    ]  # fmt: skip
    (row,) = compared(trials).pairs.itertuples()
    level = nominal_levels(0.05, 3, 3)[3]
    oracle = stats.ttest_rel(values["mse"], values["l1"]).confidence_interval(1 - level)
    assert (row.low, row.high) == pytest.approx((oracle.low, oracle.high))
    assert (row.kl_low, row.kl_high) == (10, 20)


def test_at_one_beta_the_same_two_look_like_different_losses() -> None:
    plain, scaled = linear_vae(0.02, weight=1), linear_vae(0.02, weight=100)
    assert scaled[1] - plain[1] > 3


@pytest.mark.slow
def test_ties_get_a_winner_no_more_often_than_stated() -> None:
    """At most 5%: of 60 comparisons 3, with room for chance."""
    decided = 0
    for draw in range(60):
        scaled = trained("custom", [100 * beta for beta in BETAS[1:]], weight=100, of=draw)
        found = compared(trained("mse", BETAS, of=draw), scaled)
        decided += found.pairs["finding"].iloc[0] in ("better", "worse")
    assert decided <= 6


def test_a_loss_that_makes_more_of_its_nats_wins() -> None:
    found = compared(trained("mse", BETAS, gain=0.5), trained("ssim", [3 * b for b in BETAS]))
    row = found.pairs.iloc[0]
    assert row["finding"] == "better"
    assert row["low"] < 0.5 < row["high"]
    assert "mse is better than ssim on PSNR by 0." in found.verdict[0]


def test_bands_lie_around_the_closed_form() -> None:
    bands = compared(trained("mse", BETAS), trained("ssim", BETAS)).bands
    exact = np.array([linear_vae(beta, 1) for beta in np.geomspace(2e-3, 5e-2, 400)])[::-1]
    of_mse = bands[bands["group"] == "mse"]
    expected = np.interp(of_mse["kl"], exact[:, 0], exact[:, 1])
    assert np.abs(of_mse["mean"] - expected).max() < 0.25
    assert (of_mse["low"] < of_mse["mean"]).all()
    assert set(bands["seeds"]) == {3}


def test_without_several_betas_it_gives_the_command_that_adds_them() -> None:
    found = compared([Planted("mse"), Planted("ssim")])
    assert found.pairs.empty
    assert found.verdict[0].endswith(
        "python run.py -m name=cats-rate loss=mse,ssim beta=0.1,0.3,1,3,10 seed=0,1,2"
    )


def test_a_loss_that_pays_more_kl_at_the_same_beta_gets_betas_at_which_the_curves_meet() -> None:
    """The same loss times 100, each trained at one beta: at the betas given they have one KL."""
    kls = {name: linear_vae(0.02, weight)[0] for name, weight in (("mse", 1), ("custom", 100))}
    trials = [
        Planted(name, seed, more={"beta": 0.02, "val/kl": kl + 0.1 * seed, "val/active_units": 20})
        for name, kl in kls.items() for seed in range(3)
    ]  # fmt: skip
    command = compared(trials).command
    assert command is not None
    lines = dict.fromkeys(kls, (0.0, 0.0))
    *trainings, report = command.splitlines()
    assert report == (
        "python -m analysis.report outputs/cats-rate-mse/sweep outputs/cats-rate-custom/sweep"
    )
    for line in trainings:
        said = dict(text.split("=", 1) for text in line.split()[3:])
        betas = [float(beta) for beta in said["beta"].split(",")]
        lines[said["loss"]] = betas[0], betas[-1]
    reached = {
        name: [linear_vae(beta, {"mse": 1, "custom": 100}[name])[0] for beta in lines[name]]
        for name in kls
    }
    (high, low), (other_high, other_low) = reached["mse"], reached["custom"]
    common = min(high, other_high) - max(low, other_low)
    assert common > 0.5 * (high - low)


def test_each_loss_keeps_the_settings_that_were_chosen_for_it() -> None:
    trials = [
        Planted(name, more={"lr": lr, "beta": 1.0}) for name, lr in (("mse", 1e-3), ("ssim", 3e-3))
    ]
    failed = Planted("l1", status="failed", more={"lr": 1e-3, "beta": 1.0})
    found = rate_distortion(runs([*trials, failed], searched=("loss.name", "lr")))
    assert found.command is not None
    of_mse, of_ssim, _ = found.command.splitlines()
    assert "lr=0.001" in of_mse
    assert "loss=mse " in of_mse
    assert "lr=0.003" in of_ssim
    assert "loss=ssim " in of_ssim
    assert "l1" not in found.command


def test_a_loss_on_two_scales_gets_two_sweeps() -> None:
    trials = [
        Planted("mse", more={"loss.scale": scale, "beta": 1.0})
        for scale in ("optimal_sigma", "sum")
    ]
    known = runs(trials, searched=("loss.name", "loss.scale"))
    command = rate_distortion(known, by=("loss.name", "loss.scale")).command
    assert command is not None
    names = [text for text in command.split() if text.startswith("name=")]
    assert len(set(names)) == 2


def test_trials_on_other_images_are_no_part_of_a_curve() -> None:
    def on(images: str, trials: list[Planted]) -> list[Planted]:
        return [replace(t, more={**(t.more or {}), "data.name": images}) for t in trials]

    others = on("cifar", trained("mse", BETAS, gain=3))
    found = compared(on("cats", trained("mse", BETAS)), on("cats", trained("l1", BETAS)), others)
    (row,) = found.pairs.itertuples()
    assert len(found.points) == 2 * 3 * len(BETAS)
    assert abs(row.difference) < 0.5
    assert "on other images" in found.notes[0]


@pytest.mark.parametrize("trials", [[], [Planted(status="failed")]])
def test_without_completed_trials_it_does_the_same(trials: list[Planted]) -> None:
    found = compared(trials)
    assert found.points.empty
    assert "several values of beta are missing" in found.verdict[0]


def test_with_one_seed_nothing_is_decided() -> None:
    found = compared(trained("mse", BETAS, seeds=1), trained("ssim", BETAS, gain=-9, seeds=1))
    assert found.pairs["finding"].tolist() == ["open"]
    assert "it is open which of mse and ssim is better on PSNR" in found.verdict[0]


def test_losses_that_reach_no_common_kl_are_not_compared() -> None:
    found = compared(trained("mse", [1e-3, 2e-3]), trained("ssim", [2e-2, 3e-2]))
    assert found.verdict == ["mse and ssim reach no common KL; add values of beta to one"]


def test_trials_that_differ_in_more_than_beta_are_no_curve() -> None:
    def with_latent(trials: list[Planted], size: int) -> list[Planted]:
        return [replace(t, more={**(t.more or {}), "latent_dim": size}) for t in trials]

    narrow = with_latent(trained("mse", BETAS[:2]), 8)
    wide = with_latent(trained("mse", BETAS), 64)
    known = runs([*narrow, *wide], searched=("loss.name", "latent_dim", "beta"))
    found = rate_distortion(known)
    assert set(found.points["trial"]) == set(known.trials["trial"][len(narrow) :])


def test_the_test_split_comes_before_the_validation_split_where_all_have_it() -> None:
    known = runs([*trained("mse", BETAS), *trained("ssim", BETAS)], searched=("loss.name", "beta"))
    known.trials["test/kl"], known.trials["test/psnr"] = known.trials["val/kl"], 11.0
    found = rate_distortion(known)
    assert (found.split, set(found.points["value"])) == ("test", {11.0})
    known.trials.loc[0, "test/psnr"] = np.nan
    assert rate_distortion(known).split == "val"


def test_collapsed_trials_of_one_kl_are_one_point() -> None:
    found = curve([0.0, 0.0002, 5.0, np.nan], [10.0, 12.0, 20.0, 1.0])
    assert found is not None
    assert found[0].tolist() == [0, 5]
    assert found[1].tolist() == [11, 20]
    assert curve([0.0, 0.0001], [10.0, 12.0]) is None
    assert common_range([found, (np.array([6.0, 9.0]), np.zeros(2))]) is None


@pytest.mark.slow
def test_real_models_of_a_loss_and_the_same_times_100_tie(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained at the same beta they differ, since 100 times the loss buys more KL.

    They take the same steps but for rounding, which a training makes much of where bfloat16
    rounds, so a tie is one within what separates them at one beta and what a seed changes.
    """
    from analysis.load import load
    from experiments.trial import run_trial

    trusting(monkeypatch, "tests")
    custom = ["loss=custom", "loss.target=tests.test_rate_distortion.hundredfold"]
    settings = ["lr=1e-2", "max_epochs=40", "trainer.validate_every=20",
                     "optimizer.warmup_steps=5", "optimizer.gradient_clip=null"]  # fmt: skip
    for loss, betas in ((["loss=mse"], (0.1, 10)), (custom, (10, 1000))):
        for beta, seed in product(betas, range(2)):
            config = tiny(*loss, "loss.scale=sum", f"beta={beta}", f"seed={seed}", *settings)
            run_trial(config, tmp_path / f"{loss[0]}-{beta}-{seed}", in_sweep=True)
    found = rate_distortion(load(tmp_path))
    at_10 = found.points[found.points["beta"] == 10].groupby("group")[["kl", "value"]].mean()
    assert at_10.loc["custom", "kl"] > 5 * at_10.loc["mse", "kl"]
    apart = at_10.loc["custom", "value"] - at_10.loc["mse", "value"]
    assert set(found.pairs["finding"]) <= {"open", "equal"}
    assert abs(found.pairs["difference"].iloc[0]) < 0.25 * apart
