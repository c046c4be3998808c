"""Whether a search names the loss that is best, and none where two are.

    python -m benchmarks.sweeps.winner       # 20 sweeps of each kind, about 15 minutes

Whole sweeps of the space of `sweep=full`, by the sweeper itself with its sampler, pruner and
confirmations; only the trainings are simulated: values from a landscape of loss, learning rate,
latent size and beta (`sampler.py`), with noise from seed to seed that losses share in part.
`--compare all` searches over all losses at once, as before levels were.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import sweeps
from analysis.comparison import compare
from analysis.load import load
from benchmarks.common import machine
from benchmarks.sweeps.sampler import LOSSES, _full
from experiments.errors import Interrupted, Pruned

DEVIATION, CORRELATION = 0.1, 0.6  # from seed to seed, in dB; of it between losses
EPOCHS = 27


@dataclass(frozen=True)
class SimulatedTrainings:
    """Gives PSNR and MS-SSIM of a landscape, epoch by epoch.

    Args:
        gains: what each loss has beyond the landscape, in dB.
        universe: seed of all noise.
    """

    gains: Mapping[str, float]
    universe: int

    def prepare(self, overrides: Sequence[str], number: int, settings: Any) -> _Job:
        """The job of a trial."""
        values = dict(text.split("=", 1) for text in overrides)
        return _Job(self, values)


class _Job:
    directory = ""
    epochs = EPOCHS

    def __init__(self, task: SimulatedTrainings, values: Mapping[str, str]) -> None:
        self.seed = int(values.get("seed", 0))
        searched = {key: values[key] for key in ("loss", "lr", "latent_dim", "beta")}
        self.identity = repr((searched, self.seed))
        point = {key: float(value) for key, value in searched.items() if key != "loss"}
        flat = _full({**point, "loss": "kornia_ms_ssim"}) + 0.4  # the same optimum for all
        own = _normal(task.universe, self.identity)
        common = _normal(task.universe, f"seed {self.seed}")
        noise = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own
        self._value = flat + task.gains.get(values["loss"], 0.0) + DEVIATION * noise

    def run(
        self, report: Callable[[int, Sequence[float]], bool], should_stop: Callable[[], bool]
    ) -> tuple[float, ...]:
        """A curve that approaches the value."""
        for epoch in range(1, EPOCHS + 1):
            psnr = self._value - 5 * math.exp(-epoch / 5)
            if report(epoch, (psnr, psnr / 30)) and epoch < EPOCHS:
                raise Pruned(f"at epoch {epoch}")
            if should_stop():
                raise Interrupted("asked to stop")
        return (self._value, self._value / 30)

    def pictures(self) -> list[str]:
        """None."""
        return []

    def summary(self) -> dict[str, Any]:
        """The metrics of the record that it would leave."""
        return {"metrics": {"val": {"psnr": self._value, "ms_ssim": self._value / 30}}}


def _normal(universe: int, name: str) -> float:
    words = np.frombuffer(name.encode().ljust(256, b"\0"), dtype=np.uint32)
    return float(np.random.default_rng([universe, *words]).normal())


def found_by(task: SimulatedTrainings, searched: str, confirm: int) -> tuple[str | None, int]:
    """Who is named the best by PSNR, if anybody, and how many trainings it took."""
    overrides = [
        "sweep=full", "data=cats", "max_epochs=27", "report=none", "hydra.sweeper.n_jobs=0",
        f"sweep.confirm={confirm}", "hydra.sweeper.sampler.seed=null",
    ]  # fmt: skip
    overrides += ["sweep.compare=[]"] if searched == "all" else []
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        with contextlib.redirect_stdout(io.StringIO()):
            sweep = sweeps.run(overrides, task=task)
        comparison = compare(load(sweep))
        epochs = [len(trial.user_attrs.get("reports", {})) for trial in sweep.study.trials]
        decision = comparison.results["psnr"].decision
        is_named = decision is not None and decision.is_best
        named = comparison.levels[decision.leader].name if decision is not None else None
        return named if is_named else None, round(sum(epochs) / EPOCHS)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--compare", choices=["levels", "all"], default="levels")
    parser.add_argument("--confirm", type=int, default=1)
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "disabled"
    logging.disable(logging.WARNING)
    print(f"{len(LOSSES)} losses; {machine()}\n\n| | named | whole trainings |\n|---|---|---|")
    cases = {
        "mse 0.5 dB ahead": {"mse": 0.5},
        "mse 0.2 dB ahead": {"mse": 0.2},
        "mse and l1 equal, 0.5 dB ahead": {"mse": 0.5, "l1": 0.5},
        "all equal": {},
    }
    for name, gains in cases.items():
        results = [
            found_by(SimulatedTrainings(gains, universe), arguments.compare, arguments.confirm)
            for universe in range(arguments.sweeps)
        ]
        named = Counter(who or "none" for who, _ in results)
        said = ", ".join(f"{who} {count}" for who, count in named.most_common())
        trained = np.mean([count for _, count in results])
        print(f"| {name} | {said} | {trained:.0f} |", flush=True)


if __name__ == "__main__":
    main()
