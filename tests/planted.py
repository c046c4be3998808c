"""Trials whose scores are known: for the tests of what an analysis makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from analysis.comparison import Comparison
from analysis.runs import Design, Runs
from analysis.trained.scores import Scores

PLANNED = Design(("loss.name",), 3)
METRICS = ("psnr", "ssim", "l1")
SPLIT_LEVEL = ("kl", "active_units", "laplacian_swd")


@dataclass(frozen=True)
class Planted:
    """A completed trial.

    Args:
        loss: that trained it.
        seed: of the trial.
        quality: how much better than 0 it is, in every metric.
        phase: "search" or "confirm".
        status: of the trial.
        more: other columns.
    """

    loss: str = "mse"
    seed: int = 0
    quality: float = 0.0
    phase: str = "search"
    status: str = "completed"
    more: Mapping[str, Any] | None = None


def runs(trials: Iterable[Planted], **changes: Any) -> Runs:
    """The trials in the order in which they were tried, as a table."""
    rows = [_row(number, trial) for number, trial in enumerate(trials)]
    known = Runs(
        trials=pd.DataFrame(rows, columns=None if rows else ["trial", "number", "phase", "status",
                            "seed", "configuration", "loss.name"]),
        history=pd.DataFrame(columns=["trial", "epoch", "step"]),
        objectives=("psnr",),
        searched=("loss.name",),
    )  # fmt: skip
    return replace(known, **changes)


def of_sweep(
    known: Runs, folder: Path, task: Sequence[str], own: Sequence[str] = (), **sweeper: Any
) -> Runs:
    """The same trials, in the directory of a sweep that this was typed for."""
    overrides = {"task": list(task), "hydra": [*own, "hydra.mode=MULTIRUN"]}
    content = {"hydra": {"overrides": overrides, "sweeper": {"params": {}, **sweeper}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    directories = [str(folder / str(number)) for number in known.trials["number"]]
    return replace(known, trials=known.trials.assign(directory=directories))


def scores(
    trials: Iterable[Planted],
    *,
    images: int = 40,
    seed: float = 0.1,
    image: float = 1.0,
    rest: float = 0.1,
    of: int = 0,
    split: str = "test",
) -> Scores:
    """What `runs` of the same trials score: their quality with effects of seeds and images."""
    random = np.random.default_rng(of)
    hard = {metric: image * random.normal(size=images) for metric in METRICS}
    values, level = {}, {}
    for number, trial in enumerate(trials):
        name = f"cats/{number}"
        quality = {m: trial.quality + seed * random.normal() for m in (*METRICS, *SPLIT_LEVEL)}
        values[name] = {
            metric: _scale(
                metric, quality[metric] + hard[metric] + rest * random.normal(size=images)
            )
            for metric in METRICS
        }
        level[name] = {metric: float(_scale(metric, quality[metric])) for metric in SPLIT_LEVEL}
    table = pd.DataFrame.from_dict(level, orient="index", columns=list(SPLIT_LEVEL))
    return Scores(split, values, table, dict.fromkeys(values, "cats"))


def _scale(metric: str, quality: Any) -> Any:
    """A quality, better if higher, as a metric in its own direction and usual range."""
    centre, unit = {
        "psnr": (20, 1),
        "ssim": (0.5, 0.02),
        "kl": (90, -5),
        "active_units": (30, 1),
    }.get(metric, (0.05, -0.002))
    return centre + unit * quality


def _row(number: int, trial: Planted) -> dict[str, Any]:
    more = dict(trial.more or {})
    others = " ".join(
        f"{key}={value}" for key, value in more.items() if not key.startswith("data.")
    )
    done = trial.status == "completed"
    return {
        "trial": f"cats/{number}", "source": "cats", "sweep": "cats", "number": number,
        "phase": trial.phase, "status": trial.status, "reason": None, "seed": trial.seed,
        "name": "cats", "loss.name": trial.loss,
        "configuration": f"loss={trial.loss} {others}".strip(),
        "val/psnr": 20 + trial.quality if done else np.nan,
        "val/l1": 0.05 - 0.002 * trial.quality if done else np.nan,
        "seconds/epoch": 2.0 + 0.01 * trial.seed, "directory": None, **more,
    }  # fmt: skip


def trained(seeds: int = 3, noise: float = 0.05, **quality: float) -> list[Planted]:
    """Each loss with its quality, trained by as many seeds, which have an effect of their own."""
    random = np.random.default_rng(0)
    of_seed = random.normal(size=seeds)
    return [
        Planted(loss, seed, q + 0.2 * of_seed[seed] + noise * random.normal())
        for loss, q in quality.items()
        for seed in range(seeds)
    ]


def planned(trials: list[Planted], design: Design = PLANNED, **changes: Any) -> Runs:
    return runs(trials, designs={"cats": design}, **changes)


def findings(found: Comparison) -> Mapping[str, str]:
    return found.results["psnr"].findings()
