"""Planted winners are found, planted ties are called ties, and nothing is claimed beyond that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.comparison import Comparison, compare
from experiments.errors import UserError
from tests.planted import Planted, runs, scores

METRICS = ("psnr", "ssim", "l1", "laplacian_swd", "kl", "seconds/epoch")


def trained(seeds: int = 3, **quality: float) -> list[Planted]:
    """Each loss with its quality, trained by as many seeds."""
    return [Planted(loss, seed, q) for loss, q in quality.items() for seed in range(seeds)]


def many(name: str, count: int, quality: float = 0.0) -> list[Planted]:
    """Losses of one quality, three seeds each."""
    return [Planted(f"{name}{i}", seed, quality) for i in range(count) for seed in range(3)]


def compared(trials: list[Planted], **noise: float) -> Comparison:
    return compare(runs(trials), scores(trials, **noise), metrics=METRICS)  # type: ignore[arg-type]


def test_a_planted_winner_is_found_on_every_metric() -> None:
    found = compared(trained(mse=3.0, l1=0.0, ssim=-1.0))
    assert found.verdict[0].startswith("mse is best on PSNR (23.")
    assert "dB, 95% interval 2" in found.verdict[0]
    for title in ("PSNR (", "SSIM (", "L1 (", "Laplacian SWD ("):
        assert title in found.verdict[0]
    assert found.ranks["group"].tolist() == ["mse", "l1", "ssim"]
    assert found.ranks["mean"].tolist() == [1, 2, 3]


def test_a_planted_tie_is_called_one() -> None:
    found = compared(trained(mse=0.0, l1=0.0))
    quality = found.pairs[~found.pairs["metric"].isin(["kl", "seconds/epoch"])]
    assert set(quality["verdict"]) == {"undecided"}
    assert (
        "cannot be told apart on PSNR, SSIM, L1 and Laplacian SWD with 3 seeds"
        in (found.verdict[0])
    )


def test_those_that_cannot_be_told_apart_from_the_best_are_named_without_the_rest() -> None:
    found = compared(trained(mse=3.0, l1=3.0, ssim=-5.0))
    line = found.verdict[0]
    assert line.startswith("the best on ")
    assert "one of mse and l1, which cannot be told apart" in line
    assert "ssim," not in line


@pytest.mark.slow
def test_ties_get_a_winner_no_more_often_than_stated() -> None:
    """At most 5% over all metrics and pairs: of 60 comparisons 3, with room for chance."""
    decided = 0
    for draw in range(60):
        trials = trained(mse=0.0, l1=0.0, ssim=0.0)
        found = compared(trials, of=draw, seed=0.3, images=20)
        quality = found.pairs[~found.pairs["metric"].isin(["kl", "seconds/epoch"])]
        winners = found.contenders.groupby("metric")["contends"].sum() == 1
        decided += (quality["verdict"] != "undecided").any() or winners.any()
    assert decided <= 6


@pytest.mark.slow
def test_the_truly_best_of_many_is_left_out_no_more_often_than_stated() -> None:
    """At most 5% over all metrics: of 40 comparisons 2, with room for chance."""
    missed = 0
    for draw in range(40):
        trials = trained(mse=0.1, l1=0.0, ssim=0.0, ms_ssim=-0.1, charbonnier=0.0)
        contenders = compared(trials, of=draw, seed=0.3, images=20).contenders
        missed += not contenders.loc[contenders["group"] == "mse", "contends"].all()
    assert missed <= 5


def test_three_seeds_are_enough_to_leave_out_the_worse_half_of_many() -> None:
    """What correction for all pairs of twelve would hide."""
    good = many("good", 6, quality=5.0)
    found = compared([*good, *many("bad", 6)], seed=0.1, rest=0.05)
    contending = {*found.contenders.loc[found.contenders["contends"], "group"]}
    assert contending == {trial.loss for trial in good}
    assert "the best on PSNR, SSIM, L1 and Laplacian SWD is one of good0, " in found.verdict[0]


def test_more_than_a_handful_that_tie_are_counted_not_named() -> None:
    found = compared(many("loss", 12))
    assert found.verdict[0].startswith(
        "with 3 seeds the best of 12 cannot be told apart from others: 12 on PSNR, SSIM, L1 and "
        "Laplacian SWD may be it; first by the mean: loss"
    )
    assert any("and 4 more" in line for line in found.verdict)


@pytest.mark.slow
def test_a_difference_carries_its_interval_and_both_p_values() -> None:
    found = compared(trained(mse=2.0, l1=0.0))
    row = found.pairs.set_index(["metric", "a", "b"]).loc[("l1", "mse", "l1")]
    assert row["low"] < row["difference"] < row["high"] < 0
    assert row["p"] <= row["p_holm"] <= 0.05
    assert row["verdict"] == "better"
    assert row["probability_of_improvement"] > 0.9
    assert row["probability_low"] <= row["probability_of_improvement"] <= row["probability_high"]


def test_kl_is_neither_good_nor_bad_and_counts_in_no_mean_rank() -> None:
    trials = trained(mse=3.0, l1=0.0)
    found = compared(trials, seed=0.01)
    assert found.pairs.set_index("metric").loc["kl", "verdict"] == "lower"
    assert not any("KL" in line for line in found.verdict)
    without = compare(runs(trials), scores(trials, seed=0.01), metrics=("psnr", "ssim", "l1"))
    assert without.ranks["mean"].tolist() == found.ranks["mean"].tolist()


def test_with_one_seed_it_says_so_and_gives_the_command_that_adds_some() -> None:
    found = compared(trained(seeds=1, mse=3.0, l1=0.0))
    assert found.verdict[0].startswith("mse leads on PSNR (23")
    assert "may be luck" in found.verdict[0]
    assert "seeds are missing: all have one" in found.verdict[-1]
    assert found.verdict[-1].endswith("python run.py -m name=cats loss=mse,l1 seed=0,1,2")
    assert found.pairs["p"].isna().all()
    assert found.estimates["low"].isna().all()


def test_a_loss_with_one_seed_is_left_out_of_the_verdict_by_name() -> None:
    found = compared([*trained(mse=3.0, l1=0.0), Planted("ssim", 0, 9.0)])
    assert found.verdict[0].startswith("of mse and l1, which have several seeds, mse is best on")
    assert "seeds are missing: ssim has one" in found.verdict[-1]


def test_without_scores_validation_is_compared_and_called_too_good() -> None:
    found = compare(runs(trained(mse=3.0, l1=0.0)))
    assert found.split == "val"
    assert any("somewhat too good" in note for note in found.notes)
    assert any("other seeds on these same images" in note for note in found.notes)
    assert found.estimates["images"].eq(0).all()


def test_without_scores_the_test_split_is_compared_where_all_have_it() -> None:
    known = runs(trained(mse=3.0, l1=0.0))
    tested = replace(known, trials=known.trials.assign(**{"test/psnr": 11.0, "test/l1": 0.1}))
    found = compare(tested, metrics=("psnr", "l1"))
    assert found.split == "test"
    assert found.estimates["mean"].tolist() == pytest.approx([11, 11, 0.1, 0.1])
    assert not any("too good" in note for note in found.notes)


def test_trials_scored_on_other_images_are_not_paired() -> None:
    trials = trained(mse=3.0, l1=0.0)
    known = scores(trials)
    images = {trial: "cats" if trial != "cats/5" else "dogs" for trial in known.values}
    found = compare(runs(trials), replace(known, images=images), metrics=("psnr",))
    assert found.estimates["seeds"].tolist() == [3, 2]


def test_nothing_completed_is_told_with_the_first_reason() -> None:
    known = runs([Planted(status="failed"), Planted(status="pruned")])
    known.trials.loc[0, "reason"] = "the loss became NaN"
    found = compare(known)
    assert found.verdict == [
        "no trial was completed, so there is nothing to compare (1 failed, 1 pruned); "
        "the first that failed: the loss became NaN"
    ]
    assert found.pairs.empty


def test_no_trials_at_all_are_told() -> None:
    found = compare(runs([]))
    assert found.verdict == ["there are no trials to compare"]
    assert found.chosen.empty


def test_a_single_loss_is_told_with_its_scores() -> None:
    found = compared(trained(mse=0.0))
    assert found.verdict[0].startswith("there is only mse, and nothing to compare it with: PSNR ")


def test_a_single_trial_is_told_with_what_is_missing() -> None:
    found = compared([Planted()])
    assert found.verdict[0].startswith("there is only mse")
    assert "seeds are missing: mse has one" in found.verdict[1]


def test_an_unknown_column_or_metric_is_refused_with_the_choices() -> None:
    known = runs(trained(mse=0.0))
    with pytest.raises(UserError, match=r"must be columns .* such as loss.name, but got \['los'\]"):
        compare(known, by=["los"])
    with pytest.raises(ValueError, match=r"one of psnr, .*, seconds/epoch, .*but got 'psrn'"):
        compare(known, metrics=["psrn"])


def test_latent_sizes_can_be_compared_as_well() -> None:
    trials = [
        Planted("mse", seed, size / 16, more={"latent_dim": size})
        for size in (16, 64)
        for seed in range(3)
    ]
    found = compare(runs(trials), scores(trials), by=["latent_dim"], metrics=("psnr",))
    assert found.verdict[0].startswith("latent 64 is best on PSNR")


def test_many_losses_with_many_seeds_are_all_compared() -> None:
    trials = trained(seeds=10, **{f"loss{k}": float(k) for k in range(7)})
    found = compared(trials, images=200)
    assert len(found.pairs) == len(METRICS) * 21
    assert found.pairs["p_holm"].between(found.pairs["p"], 1).all()
    assert found.ranks["group"].tolist() == [f"loss{k}" for k in reversed(range(7))]
