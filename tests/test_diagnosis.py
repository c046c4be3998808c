"""What went wrong is named, with the trials, the numbers and what to type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from analysis import diagnosis
from analysis.diagnosis import Finding, diagnose
from analysis.load import load
from analysis.runs import Runs
from experiments.scoring import symptoms
from experiments.scoring.evaluation import evaluate
from experiments.scoring.symptoms import Symptom
from models.network import Network
from tests.records import result, write, write_sweep

PARAMETERS: dict[str, Any] = {
    "latent_dim": 32, "lr": 3e-3, "beta": 1.0, "loss.scale": "optimal_sigma", "max_epochs": 20,
}  # fmt: skip
HEALTHY = {
    "psnr": 19.0, "mean_image_psnr": 12.0, "kl": 80.0, "active_units": 32.0, "saturation": 0.0,
}  # fmt: skip


def of_trial(
    metrics: dict[str, float | None] | None = None,
    course: list[float] | None = None,
    *,
    objective: str = "psnr",
    epochs: int = 20,
    **parameters: Any,
) -> list[Symptom]:
    history = [{"epoch": i, f"val/{objective}": value} for i, value in enumerate(course or [])]
    changed = {key.replace("__", "."): value for key, value in parameters.items()}
    return symptoms.symptoms(
        PARAMETERS | changed,
        HEALTHY | (metrics or {}),
        history,
        objective=objective,
        epochs=epochs,
    )


def kinds(found: list[Symptom] | list[Finding]) -> list[str]:
    return [one.kind for one in found]


def test_a_healthy_trial_has_no_symptom() -> None:
    course = [12.0, 15.0, 17.0, 18.0, 18.5, 18.8, 18.95, 19.0]
    assert of_trial(course=course) == []


def test_a_trial_of_which_nothing_is_known_has_no_symptom() -> None:
    assert symptoms.symptoms({}, {}, [], objective="psnr", epochs=None) == []


@pytest.mark.parametrize("metrics", [{"kl": 0.02, "active_units": 0.0}, {"kl": 0.02}])
def test_collapse_is_named_with_the_scale_as_the_remedy(metrics: dict[str, float | None]) -> None:
    (found,) = of_trial({**metrics, "psnr": 12.1}, loss__scale="mean")
    assert found.kind == symptoms.COLLAPSE
    assert "KL 0.02 nats; PSNR 12.10 dB, of the mean image 12.00" in found.evidence
    assert found.remedy == "loss.scale=optimal_sigma"


def test_collapse_on_the_common_scale_wants_a_smaller_beta() -> None:
    (found,) = of_trial({"kl": 0.0, "active_units": 0.0}, beta=8.0)
    assert found.remedy.startswith("beta=2")
    (early,) = of_trial({"kl": 0.0, "active_units": 0.0})
    assert early.remedy == "max_epochs=40, kl.warmup_epochs=10 or beta=0.25"


def test_a_partial_collapse_is_idle_units() -> None:
    (found,) = of_trial({"active_units": 5.0, "kl": 6.0}, loss__scale="sum")
    assert found.kind == symptoms.IDLE
    assert found.remedy == "loss.scale=optimal_sigma; or latent_dim=8"


def test_no_better_than_the_mean_image_without_a_collapse_is_nothing_learned() -> None:
    assert kinds(of_trial({"psnr": 12.1})) == [symptoms.NOTHING_LEARNED]


def test_a_training_that_exploded_wants_a_lower_rate_and_not_a_higher() -> None:
    (found,) = of_trial({"psnr": 6.4, "kl": 2e32})
    assert (found.kind, found.remedy) == (symptoms.UNSTABLE, "lr=0.001")


def test_saturated_outputs_are_named() -> None:
    (found,) = of_trial({"saturation": 0.34})
    assert found.kind == symptoms.SATURATED
    assert found.evidence.startswith("34% more")


def test_an_objective_that_was_lost_again_is_unstable_training() -> None:
    (found,) = of_trial(course=[12.0, 16.0, 18.0, 17.9, 13.0])
    assert found.kind == symptoms.UNSTABLE
    assert found.evidence == "psnr was 18 at epoch 3 and is 13 at epoch 5"
    assert found.remedy == "lr=0.001"


def test_an_objective_to_minimise_is_read_the_other_way() -> None:
    course = [0.3, 0.2, 0.1, 0.11, 0.29]
    assert kinds(of_trial(course=course, objective="l1")) == [symptoms.UNSTABLE]
    assert of_trial(course=[0.3, 0.15, 0.11, 0.1005, 0.1], objective="l1") == []


def test_still_improving_at_the_last_epoch_wants_more_epochs() -> None:
    course = [12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0]
    (found,) = of_trial(course=course)
    assert (found.kind, found.remedy) == (symptoms.SHORT, "max_epochs=40")
    assert of_trial(course=course, epochs=12) == []  # it was stopped early


def test_validations_that_were_not_finite_do_not_count() -> None:
    assert of_trial(course=[12.0, float("nan"), 16.0, 18.0, 18.9, 18.95, 19.0]) == []


def test_saturation_is_the_share_of_values_at_the_limits_beyond_the_images() -> None:
    class Half(Network):
        """Answers with images that are white in one half and grey in the other."""

        def posterior_parameters(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :4]

        def decode_logits(self, z: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(z), 1, 16, 16)
            logits[..., :8] = 40.0
            return logits

    images = torch.full((4, 1, 16, 16), 100, dtype=torch.uint8)
    images[:, :, 0, :] = torch.tensor([0, 255] * 8, dtype=torch.uint8)  # 1/16 of them
    found = evaluate(Half((1, 16, 16), 2), [images[:3], images[3:]], "cpu")
    assert found.metrics["saturation"] == pytest.approx(1 / 2 - 1 / 16)


def runs_of(rows: list[dict[str, Any]], **options: Any) -> Runs:
    """Trials of a sweep by columns."""
    columns = {"status": "completed", "reason": None, "loss.name": "mse", "val/psnr": 19.0}
    trials = [{"trial": f"cats/{i}", **columns, **row} for i, row in enumerate(rows)]
    return Runs(pd.DataFrame(trials), pd.DataFrame(), objectives=("psnr",), **options)


def test_failures_are_grouped_by_reason_the_most_frequent_first() -> None:
    rows: list[dict[str, Any]] = [
        {"status": "failed", "reason": "the loss is NaN or infinite at step 12"},
        {"status": "failed", "reason": "RuntimeError: broken\nmore"},
        {"status": "failed", "reason": "the loss is NaN or infinite at step 90"},
        {"status": "failed", "reason": None},
        {},
    ]
    found = diagnose(runs_of(rows))
    assert kinds(found) == [diagnosis.FAILED] * 3
    assert found[0].trials == ("cats/0", "cats/2")
    assert found[0].what == "2 of 5 trials failed: the loss is NaN or infinite at step 12"
    assert "a smaller lr" in found[0].remedy
    assert "sweep.retry_failed=true" in found[1].remedy
    assert found[2].what.endswith("for no known reason")


def test_a_sweep_that_pruned_everything_is_told_so() -> None:
    (found,) = diagnose(runs_of([{"status": "pruned"}, {"status": "pruned"}]))
    assert found.kind == diagnosis.NOTHING_LEFT
    assert "hydra/sweeper/pruner=none" in found.remedy
    assert diagnose(runs_of([{"status": "pruned"}, {"status": "running"}, {}])) == []


@pytest.mark.parametrize(
    ("best", "remedy"),
    [
        (0, "'lr=tag(log,interval(1e-05,0.0003))'"),
        (2, None),
        (4, "'lr=tag(log,interval(0.003,0.1))'"),
    ],
)
def test_a_best_learning_rate_at_the_edge_of_its_range_is_noticed(
    best: int, remedy: str | None
) -> None:
    rates = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    rows = [{"lr": lr, "val/psnr": 20.0 if i == best else 18.0} for i, lr in enumerate(rates)]
    found = diagnose(runs_of(rows, searched=("lr",)))
    assert [one.remedy for one in found] == ([] if remedy is None else [remedy])
    assert all(one.kind == diagnosis.LR_EDGE for one in found)


def test_the_edge_is_looked_for_within_each_loss() -> None:
    rows = [
        {"loss.name": loss, "lr": lr, "val/psnr": 20.0 if lr == best else 18.0}
        for loss, best in (("mse", 1e-3), ("ssim", 1e-2))
        for lr in (1e-4, 1e-3, 1e-2)
    ]
    (found,) = diagnose(runs_of(rows, searched=("lr", "loss.name")))
    assert "of loss=ssim is among the highest" in found.what


def test_of_two_learning_rates_none_is_at_an_edge() -> None:
    rows = [{"lr": 1e-3, "val/psnr": 20.0}, {"lr": 1e-4}]
    assert diagnose(runs_of(rows, searched=("lr",))) == []


@pytest.mark.parametrize(("active", "noticed"), [(64.0, True), (40.0, False)])
def test_a_best_latent_size_at_the_edge_counts_if_all_of_it_is_used(
    active: float, noticed: bool
) -> None:
    rows = [
        {"latent_dim": size, "val/active_units": min(active, size), "val/psnr": 10.0 + size}
        for size in (16, 32, 64)
    ]
    found = diagnose(runs_of(rows, searched=("latent_dim",)))
    assert kinds(found) == ([diagnosis.LATENT_EDGE] if noticed else [])
    if noticed:
        assert found[0].remedy == "latent_dim=64,128,256"


def test_symptoms_of_records_are_gathered_by_loss_and_scale(tmp_path: Path) -> None:
    collapsed = {"psnr": 12.0, "kl": 0.01, "active_units": 0.0}
    contents = []
    for number, scale in enumerate(["mean", "mean", "sum"]):
        content = result(loss__scale=scale, seed=number)
        if scale == "mean":
            content["metrics"]["val"] |= collapsed
        contents.append(content)
    found = diagnose(load(write_sweep(tmp_path / "cats" / "sweep", contents)))
    (one,) = [finding for finding in found if finding.kind == symptoms.COLLAPSE]
    assert one.what == "posterior collapse in 2 of 2 trials of loss=mse loss.scale=mean"
    assert len(one.trials) == 2
    assert one.remedy == "loss.scale=optimal_sigma"


def test_a_record_without_history_is_diagnosed_by_its_metrics(tmp_path: Path) -> None:
    content = result()
    content["metrics"]["val"] |= {"kl": 0.0, "active_units": 0.0}
    found = diagnose(load(write(tmp_path / "one", content, validations=0)))
    assert kinds(found) == [symptoms.COLLAPSE]


def test_nothing_to_diagnose_is_no_finding() -> None:
    assert diagnose(Runs(pd.DataFrame(columns=["trial", "status"]), pd.DataFrame())) == []


def test_the_gravest_comes_first() -> None:
    rows: list[dict[str, Any]] = [
        {"status": "failed", "reason": "CUDA out of memory"},
        {"val/kl": 0.0, "val/active_units": 0.0, "latent_dim": 8},
        {"val/kl": 9.0, "val/active_units": 2.0, "latent_dim": 8},
    ]
    found = diagnose(runs_of(rows))
    assert kinds(found) == [diagnosis.FAILED, symptoms.COLLAPSE, symptoms.IDLE]
    assert "batch_size" in found[0].remedy


LOSSES = ("mse", "l1", "ssim", "ms_ssim", "charbonnier")
COLLAPSED = {
    "val/psnr": 12.0, "val/mean_image_psnr": 12.0, "val/kl": 0.01, "val/active_units": 0.0,
}  # fmt: skip


def collapsed(loss: str, number: int, **more: Any) -> dict[str, Any]:
    parameters = {**PARAMETERS, "loss.scale": "mean", "loss.name": loss}
    return {"trial": f"t/{number}", "status": "completed", **parameters, **COLLAPSED, **more}


def test_what_is_wrong_with_many_losses_is_said_once() -> None:
    rows = [collapsed(loss, i) for i, loss in enumerate(LOSSES * 2)]
    (one,) = diagnose(runs_of(rows))
    assert one.what == "posterior collapse in 10 of 10 trials of 5 losses at loss.scale=mean"
    assert len(one.trials) == 10
    few = diagnose(runs_of(rows[:4]))
    assert len(few) == 4
    assert few[0].what == "posterior collapse in 1 of 1 trial of loss=mse loss.scale=mean"


def test_a_latent_size_at_the_edge_of_many_losses_is_said_once() -> None:
    healthy = {f"val/{name}": value for name, value in HEALTHY.items()}
    rows = [
        {**collapsed(loss, 2 * i + j), **healthy, "loss.scale": "sum", "latent_dim": size,
         "val/active_units": size, "val/psnr": 18.0 + j}
        for i, loss in enumerate(LOSSES)
        for j, size in enumerate((16, 32))
    ]  # fmt: skip
    (one,) = diagnose(runs_of(rows, searched=("loss.name", "latent_dim")))
    assert one.what.startswith("the best latent size of 5 losses is the largest")
    assert one.trials == ("t/9", "t/3", "t/7", "t/1", "t/5")


def test_a_collapsed_trial_is_not_told_to_train_longer() -> None:
    history = pd.DataFrame(
        [{"trial": "t/0", "epoch": i, "val/psnr": 11.0 + i / 20} for i in range(20)]
    )
    runs = replace(runs_of([collapsed("mse", 0, epochs=20)]), history=history)
    found = diagnose(runs)
    assert kinds(found) == [symptoms.COLLAPSE]


RISING = [11.0 + i / 2 for i in range(20)]
FALLING = [11.0, 18.0, 14.0, 13.0]


def with_courses(*courses: list[float], **more: Any) -> Runs:
    """Trials of one loss that are healthy but for their courses."""
    healthy = {f"val/{name}": value for name, value in HEALTHY.items()}
    rows = [
        {**collapsed("mse", i), **healthy, "loss.scale": "optimal_sigma", "epochs": 20,
         **{key: values[i] for key, values in more.items()}}
        for i in range(len(courses))
    ]  # fmt: skip
    history = pd.DataFrame(
        [
            {"trial": f"t/{i}", "epoch": epoch, "val/psnr": value}
            for i, course in enumerate(courses)
            for epoch, value in enumerate(course)
        ]
    )
    return replace(runs_of(rows, searched=tuple(more)), history=history)


def test_seeds_of_one_configuration_get_one_remedy() -> None:
    """One falls back (a lower rate), one is not at its end (more epochs): the graver is said."""
    (one,) = diagnose(with_courses(RISING, FALLING, configuration=["a", "a"]))
    assert (one.kind, one.trials) == (symptoms.UNSTABLE, ("t/1",))
    both = diagnose(with_courses(RISING, FALLING, configuration=["a", "b"]))
    assert kinds(both) == [symptoms.UNSTABLE, symptoms.SHORT]


def test_no_higher_rate_is_proposed_for_a_training_that_is_unstable() -> None:
    """The best has the highest rate that was tried, and falls back."""
    rates = {"lr": [1e-4, 1e-3, 1e-2], "val/psnr": [17.0, 18.0, 19.0]}
    steady = [11.0, 18.0, 18.0, 18.0]
    assert kinds(diagnose(with_courses(steady, steady, steady, **rates))) == [diagnosis.LR_EDGE]
    assert kinds(diagnose(with_courses(steady, steady, FALLING, **rates))) == [symptoms.UNSTABLE]
    seeds: dict[str, Any] = {
        "lr": [1e-4, 1e-3, 1e-2, 1e-2],
        "val/psnr": [17.0, 18.0, 19.0, 18.5],
        "configuration": ["a", "b", "c", "c"],
    }
    assert kinds(diagnose(with_courses(steady, steady, steady, FALLING, **seeds))) == [
        symptoms.UNSTABLE
    ]


def test_idle_units_of_many_latent_sizes_are_said_once() -> None:
    """Each size has a remedy of its own, so that one of them stands for all."""
    healthy = {f"val/{name}": value for name, value in HEALTHY.items()}
    rows = [
        {**collapsed(loss, i), **healthy, "loss.scale": "sum", "latent_dim": 16 * 2**i,
         "val/active_units": 2.0**i}
        for i, loss in enumerate(LOSSES)
    ]  # fmt: skip
    (one,) = diagnose(runs_of(rows))
    assert one.kind == symptoms.IDLE
    assert "in 5 of 5 trials of 5 losses" in one.what
    assert len(one.trials) == 5
    assert one.remedy.startswith("of this trial: ")


def test_no_range_is_proposed_where_nothing_was_learned() -> None:
    rates = [1e-4, 3e-4, 1e-3, 3e-3]
    rows = [{**collapsed("mse", i), "lr": lr, "val/psnr": 9.0 + i} for i, lr in enumerate(rates)]
    assert kinds(diagnose(runs_of(rows, searched=("lr",)))) == [symptoms.COLLAPSE]
