"""Planted winners are found, planted ties are called ties, and nothing is claimed beyond that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import decisions
from analysis.comparison import compare
from analysis.runs import Design
from experiments.errors import UserError
from tests.planted import (
    PLANNED,
    Planted,
    findings,
    planned,
    runs,
    scores,
    trained,
)


def psnr(trials: list[Planted], loss: str) -> np.ndarray[Any, Any]:
    return np.array([20 + trial.quality for trial in trials if trial.loss == loss])


def test_a_planted_winner_is_used_by_so_much() -> None:
    trials = trained(mse=3.0, l1=1.0, ssim=-1.0)
    found = compare(planned(trials))
    assert findings(found) == {"mse": "best", "l1": "worse", "ssim": "worse"}
    assert found.verdict[0].startswith("use mse: PSNR 23.")
    assert "over 3 seeds, better than the next, l1, by 1.9" in found.verdict[0]
    assert [level.name for level in found.ordered] == ["mse", "l1", "ssim"]
    assert len(found.verdict) == 2, "nothing is open"


def test_the_interval_is_students_of_the_differences_seed_by_seed() -> None:
    trials = trained(mse=3.0, l1=1.0)
    (row,) = compare(planned(trials)).pairs.itertuples()
    level = decisions.nominal_levels(0.05, 3, 3)[3]
    oracle = stats.ttest_rel(psnr(trials, "mse"), psnr(trials, "l1")).confidence_interval(1 - level)
    assert row.difference == pytest.approx(psnr(trials, "mse").mean() - psnr(trials, "l1").mean())
    assert (row.low, row.high) == pytest.approx((oracle.low, oracle.high))


def test_a_levels_own_interval_is_students() -> None:
    trials = trained(mse=3.0, l1=1.0)
    row = compare(runs(trials)).estimates.set_index(["metric", "group"]).loc[("psnr", "l1")]
    oracle = stats.ttest_1samp(psnr(trials, "l1"), 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((oracle.low, oracle.high))
    assert row["mean"] == pytest.approx(psnr(trials, "l1").mean())


def test_a_planted_tie_is_called_one_within_the_margin() -> None:
    found = compare(planned(trained(seeds=5, noise=0.01, mse=0.0, l1=0.0)))
    assert found.verdict[0].endswith("over 5 seeds; no other is better by more than 0.1 dB")
    assert "is practically equal to" in found.verdict[1]
    assert set(found.pairs["finding"]) == {"equal"}


@pytest.mark.parametrize("how", ["design", "argument"])
def test_a_margin_that_was_changed_counts(how: str) -> None:
    trials = trained(seeds=5, noise=0.01, mse=0.3, l1=0.0)
    design = Design(("loss.name",), 5, {"psnr": 0.5} if how == "design" else {})
    margins = {"psnr": 0.5} if how == "argument" else None
    found = compare(planned(trials, design), margins=margins)
    assert findings(found) == {"mse": "best", "l1": "equal"}
    assert "within 0.5 dB" in found.verdict[1]


def test_what_is_open_in_the_decision_is_not_told_apart_in_the_pairs() -> None:
    for draw in range(20):
        random = np.random.default_rng(draw)
        trials = [Planted(f"l{k}", s, 0.1 * random.normal()) for k in range(5) for s in range(4)]
        found = compare(planned(trials))
        said = findings(found)
        leader = next(iter(said))
        of_leader = found.pairs[(found.pairs["a"] == leader) | (found.pairs["b"] == leader)]
        for row in of_leader.itertuples():
            other = row.b if row.a == leader else row.a
            assert (row.finding == "open") == (said[other] == "open")


def test_other_metrics_are_secondary_and_kl_is_not_decided() -> None:
    known = planned(trained(mse=3.0, l1=1.0))
    known.trials["val/kl"] = 20.0 + known.trials["seed"]
    found = compare(known)
    assert list(found.results) == ["psnr", "l1", "kl", "seconds/epoch"]
    assert found.objectives == ("psnr",)
    assert set(found.pairs["metric"]) == {"psnr"}
    assert found.results["l1"].findings()["mse"] == "best"
    assert found.results["kl"].decision is None
    assert not any("KL" in line for line in found.verdict)


def test_several_objectives_are_each_a_question() -> None:
    found = compare(planned(trained(mse=3.0, l1=1.0), objectives=("psnr", "l1")))
    assert found.verdict[0] == "use mse: it leads by PSNR and L1"
    assert found.verdict[1].startswith("by PSNR, mse: PSNR 23.")
    assert found.verdict[2].startswith("by L1, mse: L1 0.04")
    assert [one.metric for one in found.primary] == ["psnr", "l1"]


def test_the_test_images_confirm_or_contradict() -> None:
    trials = trained(mse=3.0, l1=1.0)
    known = planned(trials)
    same = compare(known, scores(trials))
    assert same.verdict[-1] == "on the test images, which chose nothing, the finding is the same"
    assert same.checks["psnr"].findings()["mse"] == "best"
    assert same.shares["psnr"]["l1"] > 0.9
    swapped = [replace(t, loss={"mse": "l1", "l1": "mse"}[t.loss]) for t in trials]
    other = scores([swapped[(number + 3) % 6] for number in range(6)])
    found = compare(known, other)
    assert found.verdict[-1].endswith("it is otherwise: l1 leads, not mse")


def test_the_share_of_images_is_that_of_each_seed_averaged() -> None:
    trials = trained(seeds=2, mse=3.0, l1=1.0)
    known = scores(trials)
    values = {
        "cats/0": [1.0, 1, 1, 1], "cats/1": [1.0, 1, 0, 0],
        "cats/2": [0.0, 0, 1, 2], "cats/3": [0.0, 0, 0, 2],
    }  # fmt: skip
    known = replace(known, values={name: {"psnr": np.array(v)} for name, v in values.items()})
    share = compare(runs(trials), known).shares["psnr"]["l1"]
    assert share == pytest.approx(((2 + 0.5) / 4 + (2 + 0.5) / 4) / 2)


def test_without_a_score_of_each_trial_there_is_no_check() -> None:
    trials = trained(mse=3.0, l1=0.0)
    known = scores(trials)
    images = {trial: "cats" if trial != "cats/5" else "dogs" for trial in known.values}
    assert compare(runs(trials), replace(known, images=images)).checks == {}


def test_nothing_completed_is_told_with_the_first_reason() -> None:
    known = runs([Planted(status="failed"), Planted(status="pruned")])
    known.trials.loc[0, "reason"] = "the loss became NaN"
    found = compare(known)
    assert found.verdict == [
        "no trial was completed, so there is nothing to compare (1 failed, 1 pruned); "
        "the first that failed: the loss became NaN"
    ]
    assert found.pairs.empty
    assert found.estimates.empty


def test_no_trials_at_all_are_told() -> None:
    found = compare(runs([]))
    assert found.verdict == ["there are no trials to compare"]
    assert found.levels == ()


def test_a_key_with_one_level_is_told_with_what_it_reached() -> None:
    found = compare(runs(trained(mse=0.0)))
    assert found.verdict[0].startswith("use mse: PSNR 20")
    assert found.verdict[1] == "loss has one level, mse; a comparison needs two or more"


def test_an_unknown_column_or_metric_is_refused_with_the_choices() -> None:
    known = runs(trained(mse=0.0))
    with pytest.raises(UserError, match=r"must be columns .* such as loss.name, but got \['los'\]"):
        compare(known, by=["los"])
    with pytest.raises(ValueError, match=r"one of psnr, .*, seconds/epoch, .*but got 'psrn'"):
        compare(known, metrics=["psrn"])


def test_a_leader_by_common_seeds_is_not_said_to_have_the_highest_mean() -> None:
    """The seeds that it lacks are those with which all are good."""
    luck = [0.0, 0.05, -0.05, 1.0, 1.05, 0.95]
    trials = [Planted("l1", seed, 0.5 + luck[seed]) for seed in range(6)]
    trials += [Planted("mse", seed, 0.55 + luck[seed] + 0.1 * (seed % 2)) for seed in range(3)]
    (use, *_) = compare(planned(trials)).verdict
    assert use.startswith("use mse for now: it leads seed by seed with PSNR 20.58"), use


def test_seeds_that_two_do_not_share_are_not_said_to_be_shared() -> None:
    """The leader by way of a third one, with which both share some."""
    trials = [Planted("ssim", seed, -1.0 + (seed > 2)) for seed in range(6)]
    trials += [Planted("mse", seed, 0.3 + 0.01 * seed) for seed in range(3)]
    trials += [Planted("l1", seed, 1.0 + 0.3 * (seed == 4)) for seed in range(3, 6)]
    said = " ".join(compare(planned(trials)).verdict)
    assert "use mse for now" in said
    assert "that both have" not in said
    assert "l1, which with other seeds reached more, by 0." in said


def test_equals_to_the_last_digit_are_equal_at_any_margin() -> None:
    trials = [Planted(loss, seed, 0.1 * seed) for loss in ("mse", "l1") for seed in range(12)]
    found = compare(planned(trials), margins={"psnr": 0.0})
    assert findings(found) == {"mse": "leads", "l1": "equal"}
    assert found.settling is None


def test_sweeps_with_other_margins_and_objectives_are_told() -> None:
    first = planned(trained(seeds=3, mse=1.0, l1=0.0))
    table = first.trials.assign(sweep=["a" if s < 2 else "b" for s in first.trials["seed"]])
    more = table.assign(sweep="b", seed=table["seed"] + 5, trial="b/" + table["trial"])
    both = pd.concat([table.assign(sweep="a"), more], ignore_index=True)
    designs = {
        "a": Design(("loss.name",), 3, {"psnr": 0.5}),
        "b": Design(("loss.name",), 2, {"psnr": 0.2}),
    }
    found = compare(replace(first, trials=both, designs=designs, objectives=()))
    assert found.planned == 3, "as good as 2: nobody looks before"
    assert found.results["psnr"].measure.margin == 0.2
    assert "the sweeps have different margins, of which the smallest count" in found.notes
    assert "the sweeps have different objectives: PSNR decides" in found.notes


def test_a_tie_by_several_metrics_is_in_the_first_sentence() -> None:
    known = planned(trained(seeds=6, noise=0.002, mse=0.02, l1=0.0))
    found = compare(replace(known, objectives=("psnr", "l1")), margins={"l1": 0.1})
    assert found.verdict[0].startswith("use mse")
    assert found.verdict[0].endswith("; practically equal by all of them: l1"), found.verdict


def test_margins_of_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="a margin must be METRIC=VALUE"):
        compare(planned(trained(mse=1.0, l1=0.0)), margins={"psnrr": 0.1})


def test_who_learned_nothing_is_said_to_have_lost_by_that() -> None:
    better = trained(mse=0.0, l1=-1.0)
    still = [
        Planted("ssim", seed, -7.9, more={"val/mean_image_psnr": 12.0, "val/psnr": 12.1})
        for seed in range(3)
    ]
    known = planned([*better, *still])
    known.trials["val/mean_image_psnr"] = 12.0
    (said,) = [line for line in compare(known).verdict if "the mean image" in line]
    assert said.startswith("no better than the mean image by PSNR: ssim; unless")
    known.trials["val/mean_image_psnr"] = 25.0
    (said,) = [line for line in compare(known).verdict if "the mean image" in line]
    assert said.startswith("no better than the mean image by PSNR: all of them")
    known.trials["val/mean_image_psnr"] = np.nan
    assert not any("the mean image" in line for line in compare(known).verdict)


def test_sweeps_that_planned_otherwise_say_why_their_answer_is_wide() -> None:
    known = planned(trained(seeds=4, mse=1.0, l1=0.0))
    known.trials["sweep"] = np.where(known.trials["seed"] < 2, "cats", "more")
    designs = {"cats": Design(("loss.name",), 3), "more": Design(("loss.name",), 5)}
    (note,) = [one for one in compare(replace(known, designs=designs)).notes if "planned" in one]
    assert note.startswith("the sweeps planned 3 seeds and 5 seeds, so that")
    one = replace(known, designs=dict.fromkeys(designs, designs["cats"]))
    assert not any("planned" in note for note in compare(one).notes)


def test_what_the_sweep_compares_is_compared() -> None:
    trials = [
        Planted("mse", seed, size / 16 + 0.01 * seed**2, more={"latent_dim": size})
        for size in (16, 64)
        for seed in range(3)
    ]
    found = compare(planned(trials, Design(("latent_dim",), 3)))
    assert found.by == ("latent_dim",)
    assert found.planned == 3
    assert "latent 64" in found.verdict[0]
    assert compare(runs(trials), by=["latent_dim"]).planned is None


def test_a_sweep_that_is_left_out_has_no_say() -> None:
    """Neither in how many seeds were planned, nor in the commands."""
    here = trained(mse=1.0, l1=0.0)
    known = planned(here)
    others = known.trials.assign(sweep="other", trial="other/" + known.trials["trial"])
    known = replace(known, trials=known.trials.assign(max_epochs=2))
    others = others[others["seed"] < 2].assign(max_epochs=1)
    both = replace(
        known,
        trials=pd.concat([known.trials, others], ignore_index=True),
        designs={"cats": PLANNED, "other": Design(("loss.name",), 2)},
    )
    alone, found = compare(known), compare(both)
    assert any("trained on another budget" in note for note in found.notes)
    assert not any("planned" in note for note in found.notes)
    assert found.planned == alone.planned
    lost = "no trial of other counts: they were trained on another budget"
    assert found.verdict == [*alone.verdict, lost]


def test_an_interval_of_a_mean_lies_around_it() -> None:
    """Also where the mean makes up for a seed that a level lacks."""
    known = planned(trained(seeds=4, mse=1.0, l1=0.0)[:-1])
    rows = compare(known).estimates
    rows = rows[rows["metric"] == "psnr"].dropna()
    assert len(rows) == 2
    assert (rows["low"] + rows["high"]).to_numpy() / 2 == pytest.approx(rows["mean"].to_numpy())


def test_of_two_seeds_no_interval_is_told() -> None:
    (use, still, *_) = compare(planned(trained(seeds=2, noise=0.5, mse=0.1, l1=0.0))).verdict
    assert use.endswith("is not surely best")
    assert still.startswith("open, since so few seeds say little, is whether ")
    assert "interval" not in still


def test_what_differs_though_nobody_searched_it_is_named_and_shown() -> None:
    trials = trained(mse=3.0, l1=1.0)
    known = planned(trials, varied=("loss.name", "lr", "batch_size", "latent_dim"))
    is_l1 = known.trials["loss.name"] == "l1"
    known.trials["lr"] = np.where(is_l1, 1e-4, 1e-3)
    known.trials["batch_size"] = 64
    known.trials["latent_dim"] = 8 + known.trials["seed"]  # as much for each
    found = compare(known)
    assert "what is compared differs in lr as well, which no sweep searched" in found.verdict[1], (
        found
    )
    assert "batch_size" not in " ".join(found.verdict)
    assert found.verdict[0].startswith("use mse (lr 0.001"), found.verdict[0]
    alike = compare(planned(trials, varied=("loss.name",)))
    assert not any("as well" in line for line in alike.verdict)


def test_a_level_that_only_a_left_out_sweep_has_is_named_in_the_answer() -> None:
    known = planned([*trained(mse=3.0, l1=1.0), *trained(ssim=9.0)])
    is_ssim = known.trials["loss.name"] == "ssim"
    known.trials["data.name"] = np.where(is_ssim, "faces", "cats")
    known.trials["sweep"] = known.trials["data.name"]
    found = compare(known)
    assert [level.name for level in found.levels] == ["mse", "l1"]
    assert "not compared: ssim, which was trained on other images in faces" in found.verdict
    assert "compared are those of cats with data.name=cats" in found.notes[0]


def test_seeds_that_failed_are_said_where_the_loss_is() -> None:
    """The half that did not fail may flatter it, so that it is not the fastest to use either."""
    trials = trained(seeds=8, noise=0.01, mse=0.03, l1=0.0)
    trials = [
        replace(trial, status="failed") if (trial.loss, trial.seed % 2) == ("l1", 1) else trial
        for trial in trials
    ]
    known = planned(trials, Design(("loss.name",), 4))
    known.trials["seconds/total"] = np.where(known.trials["loss.name"] == "l1", 1.0, 9.0)
    found = compare(known)
    said = "l1 (4 of its 8 seeds failed) is practically"
    assert any(said in line for line in found.verdict), found.verdict
    assert not any("fastest" in line for line in found.verdict)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([5.0, 4.0, 4.5, 4.0, 4.0], "l1 is the fastest of them, 2.2 times as fast"),
        ([9.5, 4.0, 4.5, 4.0, 4.0], None),  # as one of a busy machine, or a worker's first
        ([8.8, 8.7, 8.8, 8.7, 8.8], None),
    ],
)
def test_one_is_faster_where_each_of_its_trainings_was(
    seconds: list[float], said: str | None
) -> None:
    known = planned(trained(seeds=5, noise=0.01, mse=0.02, l1=0.0), Design(("loss.name",), 5))
    is_l1 = (known.trials["loss.name"] == "l1").to_numpy()
    known.trials["seconds/total"] = 9.0
    known.trials.loc[is_l1, "seconds/total"] = seconds
    found = compare(known)
    assert findings(found)["l1"] == "equal"
    line = " ".join(found.verdict)
    assert "faster" not in line
    assert (said in line) if said else ("fast" not in line)


def test_a_leader_that_is_behind_on_shared_seeds_is_not_said_to_be_ahead_there() -> None:
    table: dict[str, dict[int, float]]
    table = {"mse": {0: 0.0, 1: 1.0, 2: 0.4}, "l1": {1: 1.2, 2: 0.5, 3: 0.3}, "ssim": {0: -2, 3: 2}}
    trials = [Planted(loss, s, float(q)) for loss, of in table.items() for s, q in of.items()]
    found = compare(planned(trials))
    assert not any("by -" in line for line in found.verdict), found.verdict
    decision = found.results["psnr"].decision
    assert decision is not None
    behind = [rival for rival in decision.rivals if rival.pair.difference < 0]
    assert behind, "the case is one"
    assert "which on the 2 seeds that both have is ahead by 0." in " ".join(found.verdict)


@pytest.mark.parametrize(
    ("psnr", "ssim", "said"),
    [
        ((0.0, -0.01), (1.0, 0.0), "use mse: it leads by PSNR and SSIM"),
        (
            (-0.01, 0.0),
            (1.0, 0.0),
            "use mse: it leads by SSIM, and is practically equal to the first by PSNR",
        ),
        ((-1.0, 0.0), (1.0, 0.0), "none leads by all of PSNR and SSIM: l1 and mse do by one each"),
    ],
)
def test_of_two_objectives_one_sentence_says_what_to_use(
    psnr: tuple[float, float], ssim: tuple[float, float], said: str
) -> None:
    known = planned(
        trained(seeds=5, noise=0.001, mse=psnr[0], l1=psnr[1]),
        Design(("loss.name",), 5),
        objectives=("psnr", "ssim"),
    )
    is_l1 = known.trials["loss.name"] == "l1"
    shift = 0.001 * np.random.default_rng(0).normal(size=len(is_l1))
    known.trials["val/ssim"] = 0.5 + 0.02 * np.where(is_l1, ssim[1], ssim[0]) + 0.1 * shift
    assert compare(known).verdict[0].startswith(said)


@pytest.mark.parametrize(
    ("margin", "said"),
    [(0.15, "0.15 dB"), (0.25, "0.25 dB"), (1.5, "1.5 dB"), (0.0025, "0.0025 dB")],
)
def test_a_margin_is_said_as_it_was_given(margin: float, said: str) -> None:
    trials = planned(trained(seeds=5, noise=0.0001, mse=0.0, l1=0.0), Design(("loss.name",), 5))
    found = compare(trials, margins={"psnr": margin})
    assert any(f"within {said} " in line for line in found.verdict), found.verdict
    assert not any("-0.0 " in line or "-0.00 " in line for line in found.verdict)


def test_a_wide_margin_leaves_a_decimal() -> None:
    found = compare(planned(trained(mse=1.0, l1=0.0)), margins={"psnr": 25.0})
    assert "(95% interval 1 to 1)" not in " ".join(found.verdict)
    assert found.results["psnr"].measure.digits == 1


def test_what_is_recommended_is_what_the_answer_says_to_use() -> None:
    """By two objectives, of which one names another first."""
    known = planned(
        trained(seeds=5, noise=0.001, mse=-0.01, l1=0.0),
        Design(("loss.name",), 5),
        objectives=("psnr", "ssim"),
    )
    is_l1 = known.trials["loss.name"] == "l1"
    shift = 0.0001 * np.random.default_rng(0).normal(size=len(is_l1))
    known.trials["val/ssim"] = 0.5 + np.where(is_l1, 0.0, 0.02) + shift
    found = compare(known)
    assert found.verdict[0].startswith("use mse: it leads by SSIM, and is practically equal to")
    assert set(found.recommended) == {f"cats/{number}" for number in range(5)}


def test_one_seed_leads_by_two_objectives_and_may_be_lucky() -> None:
    known = planned(trained(seeds=1, mse=1.0, l1=0.0), objectives=("psnr", "l1"))
    assert compare(known).verdict[0].endswith("with one seed that may be luck")


def test_two_objectives_that_are_open_claim_no_more_than_one() -> None:
    known = planned(trained(noise=0.3, mse=0.7, l1=0.0), objectives=("psnr", "l1"))
    found = compare(known)
    assert found.verdict[0] == (
        "use mse for now: it leads by PSNR and L1, but is not surely best by PSNR and L1"
    )


def test_one_training_beside_several_seeds_is_not_compared() -> None:
    trials = [*trained(mse=1.0, l1=0.0), Planted("ssim", 0, 9.0)]
    found = compare(planned(trials))
    assert [level.name for level in found.levels] == ["mse", "l1"]
    assert "ssim has one seed so far: not compared" in found.verdict


def test_a_single_training_is_not_said_to_be_what_to_use() -> None:
    found = compare(planned([Planted("mse", 0, 1.0)]))
    assert (
        found.verdict[0] == "mse leads: PSNR 21.00 dB over 1 seed; with one seed that may be luck"
    )


def test_a_mean_is_that_of_its_own_seeds() -> None:
    """What it would be with the seeds that it lacks is for the decision alone."""
    trials = [Planted("mse", s, 0.0) for s in (1, 2)] + [
        Planted("l1", s, -0.5 * s) for s in range(3)
    ]
    found = compare(planned(trials))
    assert dict(zip(found.results["psnr"].levels, found.results["psnr"].means, strict=True)) == {
        "mse": pytest.approx(20.0), "l1": pytest.approx(19.5),
    }  # fmt: skip
    assert any("not all have the same seeds" in note for note in found.notes)
