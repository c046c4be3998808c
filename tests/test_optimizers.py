"""Learning-rate schedules, by the rates they give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.optimizers import adamw, schedules

PLATEAU = {"monitor": "val/psnr", "mode": "max", "factor": 0.5, "patience": 1, "frequency": 1}


def rates(schedule: str, steps: int, **options: Any) -> list[float]:
    optimizer = adamw(nn.Linear(2, 2).parameters(), lr=1.0, weight_decay=0.1)
    configs = schedules(optimizer, schedule=schedule, total_steps=steps, plateau=PLATEAU, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for config in configs:
            if config["interval"] == "step":
                config["scheduler"].step()
    return found


def test_constant_warms_up_linearly_and_stays() -> None:
    assert rates("constant", 6, warmup_steps=3) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert rates("constant", 3, warmup_steps=0) == [1, 1, 1]


def test_cosine_warms_up_and_ends_near_zero() -> None:
    found = rates("cosine", 103, warmup_steps=3)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[53] == pytest.approx(0.5)
    assert found[-1] == pytest.approx(0, abs=1e-3)


def test_plateau_halves_the_rate_when_the_metric_stalls() -> None:
    optimizer = adamw(nn.Linear(2, 2).parameters(), lr=1.0, weight_decay=0.1)
    (config,) = schedules(
        optimizer, schedule="plateau", total_steps=9, warmup_steps=0, plateau=PLATEAU
    )
    assert (config["monitor"], config["interval"]) == ("val/psnr", "epoch")
    for psnr in (10.0, 11.0, 11.0):
        config["scheduler"].step(psnr)
    assert optimizer.param_groups[0]["lr"] == 1.0
    config["scheduler"].step(11.0)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_only_weights_decay() -> None:
    optimizer = adamw(nn.Linear(2, 2).parameters(), lr=1.0, weight_decay=0.1)
    decays = {p.ndim: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {2: 0.1, 1: 0.0}
    assert isinstance(optimizer, torch.optim.AdamW)
