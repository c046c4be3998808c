"""What a sweep costs a trial besides its training.

    python -m benchmarks.sweeps.overhead

Tiny trials that really train, by one worker that is warm: everything from the end of one trial to
the end of the next, without what its record counts as preparing, fitting and scoring. The parts
are timed in a second sweep within this process, each without those of its own parts that are
listed too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common import print_ratios, result

SWEEP = ["lr=tag(log,interval(1e-4,1e-2))"]
TINY = [
    "data.size=32", "data.count=400", "model.width=4", "latent_dim=4", "batch_size=16",
    "max_epochs=2", "logger=none", "evaluation.samples=64", "trainer.progress=false",
]  # fmt: skip


def sweep_of(trials: int, workers: int, directory: str) -> Any:
    """A sweep of tiny trials."""
    import sweeps

    limits = [f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.n_jobs={workers}"]
    return sweeps.run([*SWEEP, *TINY, *limits, f"hydra.sweep.dir={directory}"])


def seconds_of_trials(trials: int) -> dict[str, list[float]]:
    """Milliseconds of each trial but the first, with a worker of its own process."""
    with tempfile.TemporaryDirectory() as directory:
        done = sweep_of(trials, 1, directory).study.trials
        measured: dict[str, list[float]] = {"trial": [], "prepare, fit, score": [], "the rest": []}
        for before, trial in pairwise(done):
            whole = (trial.datetime_complete - before.datetime_complete).total_seconds()
            record = Path(directory, f"{trial.number}", "result.json")
            timings = json.loads(record.read_text(encoding="utf-8"))["timings"]
            trained = sum(timings[f"{part}_seconds"] for part in ("prepare", "fit", "score"))
            for name, seconds in zip(measured, (whole, trained, whole - trained), strict=True):
                measured[name].append(1000 * seconds)
    return measured


class Parts:
    """Milliseconds that functions take, trial by trial, each without the others that it calls."""

    def __init__(self) -> None:
        self.trials: list[dict[str, float]] = []
        self._inner: list[float] = []

    def timed(self, name: str, function: Callable[..., Any], first: bool) -> Callable[..., Any]:
        """The function with a clock; with the first of a trial's functions a new trial begins."""

        @wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            if first:
                self.trials.append({})
            began = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = 1000 * (time.perf_counter() - began)
                own = whole - self._inner.pop()
                if self._inner:
                    self._inner[-1] += whole
                if self.trials:
                    self.trials[-1][name] = self.trials[-1].get(name, 0.0) + own

        return measured

    @contextmanager
    def watching(self, functions: Sequence[tuple[str, Any, str]]) -> Iterator[None]:
        """The functions, as (name, owner, attribute), are timed; the first begins a trial."""
        before = [getattr(owner, attribute) for _, owner, attribute in functions]
        for i, (name, owner, attribute) in enumerate(functions):
            setattr(owner, attribute, self.timed(name, before[i], first=i == 0))
        try:
            yield
        finally:
            for (_, owner, attribute), function in zip(functions, before, strict=True):
                setattr(owner, attribute, function)


def parts_of_trials(trials: int) -> dict[str, list[float]]:
    """Milliseconds of each part of each trial but the first."""
    import hydra.core.utils
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    import experiments.scoring.checkpoint
    import experiments.training
    import experiments.trial
    from experiments import config
    from sweeps.search.pruning import Reporting
    from sweeps.study.claims import Claims
    from sweeps.study.execution import Worker
    from sweeps.study.leases import Lease
    from sweeps.workers.task import TrainingJob, TrainingTask

    functions = [
        ("claim: lock, read the study, limits", Claims, "next"),
        ("claim: ask", Claims, "_claim"),
        ("claim: suggest and store", Claims, "_filled"),
        ("worker: lease", Lease, "take"),
        ("prepare: compose", ConfigLoaderImpl, "load_sweep_config"),
        ("prepare: check the config", config, "plain"),
        ("prepare: images", TrainingTask, "_load"),
        ("prepare: directory, identity", TrainingTask, "prepare"),
        ("worker: describe the trial", Worker, "_describe"),
        ("run: hydra's run_job", hydra.core.utils, "run_job"),
        ("run: contexts and logging", TrainingJob, "run"),
        ("run: record, callbacks", experiments.trial, "run_trial"),
        ("training: prepare", experiments.trial, "_prepare"),
        ("training: fit", experiments.training, "fit"),
        ("training: score", experiments.scoring.checkpoint, "score"),
        ("training: report to the study", Reporting, "report"),
        ("end: summary and tell", Worker, "_end"),
        ("worker: the rest", Worker, "train"),
    ]
    parts = Parts()
    with tempfile.TemporaryDirectory() as directory, parts.watching(functions):
        sweep_of(trials, 0, directory)
    # The last claim finds none.
    counted = [trial for trial in parts.trials[1:] if "training: fit" in trial]
    measured = {name: [trial.get(name, 0.0) for trial in counted] for name, _, _ in functions}
    whole = [
        sum(ms for name, ms in trial.items() if not name.startswith("training: "))
        for trial in counted
    ]
    return {"all but training": whole, **measured}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    trials = parser.parse_args().trials
    whole, parts = seconds_of_trials(trials + 1), parts_of_trials(trials + 1)
    rest = statistics.median(whole["the rest"])
    result("sweep: what is not training, scoring or logging", rest, "<= 300", unit="ms a trial")
    print_ratios(f"{trials} tiny trials, one warm worker", whole, "the rest", "ms a trial")
    print_ratios("its parts, in this process", parts, "all but training", "ms a trial")


if __name__ == "__main__":
    main()
