"""Each loss is stood for by the configuration that validation chose, all with the same luck."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.choosing import Chosen, choose, places
from experiments.errors import UserError
from tests.planted import Planted, runs


def at(latent: int, quality: float, loss: str = "mse", **how: object) -> Planted:
    return Planted(loss, quality=quality, more={"latent_dim": latent}, **how)  # type: ignore[arg-type]


def chosen(*trials: Planted, **options: object) -> dict[str, Chosen]:
    found, _ = choose(runs(trials, searched=("loss.name", "latent_dim")), **options)  # type: ignore[arg-type]
    return {one.group: one for one in found}


def test_the_best_on_validation_images_stands_for_its_loss() -> None:
    found = chosen(at(16, 1), at(32, 3), at(64, 2), at(16, 0, "ssim"), equal_budget=False)
    assert found["mse"].parameters == {"loss.name": "mse", "latent_dim": 32}
    assert found["mse"].trials == ("cats/1",)
    assert found["mse"].tried == 3
    assert list(found) == ["mse", "ssim"]


def test_a_loss_of_which_more_was_tried_gets_no_more_luck() -> None:
    trials = [at(16, 1), at(32, 2), at(64, 9), at(16, 0, "ssim"), at(32, 1, "ssim")]
    found, notes = choose(runs(trials))
    assert [one.trials for one in found] == [("cats/1",), ("cats/4",)]
    assert any("the first 2 configurations tried" in note for note in notes)
    assert any("mse 3, ssim 2" in note for note in notes)


def test_pruned_and_failed_configurations_were_tried_as_well() -> None:
    trials = [
        at(16, 9, status="pruned"), at(32, 1), at(64, 9), at(16, 0, "ssim"),
        at(32, 0, "ssim", status="failed"),
    ]  # fmt: skip
    assert chosen(*trials)["mse"].trials == ("cats/1",)


def test_a_configuration_counts_with_the_mean_of_its_seeds() -> None:
    lucky = [at(16, 3, seed=0), at(16, -3, seed=1)]
    steady = [at(32, 1, seed=0), at(32, 1, seed=1)]
    found = chosen(*lucky, *steady)["mse"]
    assert found.trials == ("cats/2", "cats/3")
    assert found.seeds == (0, 1)
    assert not found.confirmed


def test_confirmed_with_fresh_seeds_it_counts_with_these_alone() -> None:
    search = [at(16, 9), at(32, 8), at(64, 1)]
    fresh = [at(16, 2, seed=7, phase="confirm"), at(16, 2, seed=8, phase="confirm"),
             at(32, 4, seed=7, phase="confirm"), at(32, 4, seed=8, phase="confirm")]  # fmt: skip
    found = chosen(*search, *fresh)["mse"]
    assert found.trials == ("cats/5", "cats/6")
    assert found.confirmed
    assert found.tried == 3


def test_one_fresh_seed_does_not_confirm() -> None:
    found = chosen(at(16, 1), at(16, 1, seed=7, phase="confirm"))["mse"]
    assert found.trials == ("cats/0", "cats/1")
    assert not found.confirmed


def test_the_same_seed_again_is_no_more_evidence() -> None:
    assert chosen(at(16, 1, seed=4), at(16, 1, seed=4))["mse"].seeds == (4,)


def test_with_several_objectives_the_mean_place_decides() -> None:
    known = runs([at(16, 0), at(32, 0), at(64, 0)], objectives=("psnr", "l1"))
    trials = known.trials.assign(**{"val/psnr": [21.0, 20.9, 15.0], "val/l1": [0.9, 0.1, 0.2]})
    found, _ = choose(replace(known, trials=trials))
    assert found[0].trials == ("cats/1",)


def test_a_configuration_without_a_number_is_not_chosen() -> None:
    known = runs([at(16, 9), at(32, 0)])
    known.trials.loc[0, "val/psnr"] = float("nan")
    assert choose(known)[0][0].trials == ("cats/1",)


def test_a_loss_that_never_completed_is_named_and_costs_the_others_nothing() -> None:
    found, notes = choose(runs([at(16, 1), at(32, 2), at(16, 0, "ssim", status="failed")]))
    assert [one.trials for one in found] == [("cats/1",)]
    assert "no trial of ssim was completed: left out" in notes


def test_a_loss_whose_share_of_the_budget_gave_nothing_is_named() -> None:
    trials = [at(16, 1), at(16, 0, "ssim", status="pruned"), at(32, 5, "ssim")]
    found, notes = choose(runs(trials))
    assert [one.group for one in found] == ["mse"]
    assert any("none of the first 1 configurations of ssim was completed" in n for n in notes)
    assert set(chosen(*trials, equal_budget=False)) == {"mse", "ssim"}


def test_groups_can_be_made_of_several_columns() -> None:
    trials = [Planted("mse", more={"loss.scale": scale}) for scale in ("sum", "mean")]
    found, _ = choose(runs(trials), by=["loss.name", "loss.scale"])
    assert [one.group for one in found] == ["mse, sum", "mse, mean"]


def test_only_trials_on_the_same_images_are_compared() -> None:
    trials = [Planted("mse", more={"data.size": size}) for size in (64, 64, 32)]
    found, notes = choose(runs([*trials, Planted("l1", more={"data.size": 64})]))
    assert [one.group for one in found] == ["mse", "l1"]
    assert any(note.startswith("1 completed trials on other images are left out") for note in notes)
    assert any("data.size=64" in note for note in notes)


def test_places_count_configurations_from_the_best() -> None:
    known = runs([at(16, 1), at(32, 3), at(64, 2)])
    assert places(known) == {
        "loss=mse latent_dim=32": 1, "loss=mse latent_dim=64": 2, "loss=mse latent_dim=16": 3,
    }  # fmt: skip


@pytest.mark.parametrize("by", [[], ["no.such"], "loss.name"])
def test_columns_that_are_none_are_refused(by: object) -> None:
    with pytest.raises(UserError, match=r"must be columns of the trials, such as loss\.name"):
        choose(runs([Planted()]), by=by)  # type: ignore[arg-type]


def test_single_runs_which_have_no_number_are_tried_in_the_order_of_the_table() -> None:
    known = runs([at(16, 1), at(32, 3), at(64, 2, "ssim")])
    trials = known.trials.assign(number=pd.array([None] * 3, dtype="Int64"))
    found, _ = choose(replace(known, trials=trials))
    assert [one.trials for one in found] == [("cats/0",), ("cats/2",)]
