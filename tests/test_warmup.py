"""What the KL's warm-up hides: nothing is selected, stopped or pruned before it has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from experiments.errors import UserError
from experiments.record import KL_WEIGHT, at_full_weight, read_history, read_result
from experiments.scoring.symptoms import symptoms
from experiments.trial import run_trial
from models.vae import VAE
from sweeps.workers.training import Reporter
from tests.conftest import TINY

Compose = Callable[..., dict[str, Any]]


def test_a_warmup_as_long_as_the_training_is_refused(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"`kl.warmup_epochs` must be below.*got 4 of 4"):
        compose("kl.warmup_epochs=4", "max_epochs=4")
    compose("kl.warmup_epochs=3.5", "max_epochs=4")


@pytest.mark.slow
@pytest.mark.trains
def test_only_what_was_trained_at_its_beta_is_selected(tmp_path: Path, compose: Compose) -> None:
    # So much KL costs PSNR: without a rule, the best epoch is one of the warm-up.
    config = compose(
        *TINY, "data.count=240", "beta=500", "kl.warmup_epochs=12", "max_epochs=16", "lr=1e-2",
        "trainer.validate_every=1", "optimizer.warmup_steps=0",
        "trainer.early_stopping_patience=1", "optimizer.plateau_patience=0",
    )  # fmt: skip
    result = run_trial(config, tmp_path / "trial")
    rows = read_history(tmp_path / "trial")
    assert len(rows) > 12, "it is not stopped before"
    weights = [row[KL_WEIGHT] for row in rows]
    assert weights == sorted(weights)
    assert all(weight < 1 for weight in weights[:11])
    assert all(weight == 1 for weight in weights[11:])
    psnr = [row["val/psnr"] for row in rows]
    assert max(psnr[:11]) > max(psnr[11:]), "the test tries what it should"
    assert result.metrics["val"]["psnr"] == pytest.approx(max(psnr[11:]), abs=1e-3)
    rates = [row["lr"] for row in rows[:12]]
    assert len(set(rates[2:])) == 1, "no plateau is seen before"
    assert read_result(tmp_path / "trial")["status"] == "completed"


def test_a_pruner_hears_of_nothing_before() -> None:
    module = VAE(
        SimpleNetwork(),  # type: ignore[arg-type]
        nn.Identity(),
        make_optimizer=lambda parameters: torch.optim.SGD(parameters),
        make_schedules=lambda optimizer: [],
        kl_warmup_steps=10,
    )
    heard: list[int] = []

    def report(epoch: int, values: Any) -> bool:
        heard.append(epoch)
        return False

    reporter = Reporter(["psnr"], report, lambda: False)
    for epoch, step in enumerate([4, 9, 10, 14]):
        module._trainer = SimpleNamespace(global_step=step)  # type: ignore[assignment]
        trainer: Any = SimpleNamespace(
            current_epoch=epoch, max_epochs=4, callback_metrics={"val/psnr": 20.0}
        )
        reporter.on_validation_end(trainer, module)
    assert heard == [3, 4]


def test_rows_of_older_versions_count_and_symptoms_are_of_rows_that_do() -> None:
    old = [{"epoch": e, "val/psnr": 10.0 + e} for e in range(5)]
    assert at_full_weight(old) == old
    fallen = [
        {"epoch": e, "val/psnr": p, KL_WEIGHT: w}
        for e, (p, w) in enumerate(
            [(20.0, 0.1), (22.0, 0.5), (12.0, 1.0), (13.0, 1.0), (13.1, 1.0), (13.1, 1.0)]
        )
    ]
    assert symptoms({}, {}, fallen, objective="psnr", epochs=None) == []
    unweighed = [{k: v for k, v in row.items() if k != KL_WEIGHT} for row in fallen]
    (found,) = symptoms({}, {}, unweighed, objective="psnr", epochs=None)
    assert found.kind == "unstable training"


class SimpleNetwork(nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
