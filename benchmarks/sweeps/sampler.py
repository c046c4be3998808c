"""Which settings of TPE find good trials of a VAE sweep soonest, with one worker and with several.

    python -m benchmarks.sweeps.sampler

Analytic stand-ins for what sweeps of VAEs look like, since real trainings would take months: the
learning rate has a best value that moves with the loss and the batch, and a cliff above it;
`beta` trades against the learning rate; latent sizes saturate; an option belongs to some losses
only; each trial's value has the noise of a seed. Workers are simulated: each asks when its last
trial ends, and trials take times that differ. What counts is the regret: how much worse the
configuration of the best observed trial is than the best possible one, without noise, in dB.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pool
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Values = Mapping[str, Any]

SAMPLERS: dict[str, dict[str, Any]] = {
    "univariate": {"multivariate": False, "constant_liar": False},
    "univariate, liar": {"multivariate": False, "constant_liar": True},
    "multivariate": {"multivariate": True, "constant_liar": False},
    "multivariate, liar": {"multivariate": True, "constant_liar": True},
    "multivariate, liar, group": {"multivariate": True, "constant_liar": True, "group": True},
}
"""Options of `optuna.samplers.TPESampler`."""
RANDOM = "random"
NOISE = 0.15
"""Standard deviation from seed to seed, in dB, as PSNR of the drawn cats has it."""
LOSSES = ("mse", "l1", "ssim", "ms_ssim", "kornia_ssim", "kornia_ms_ssim", "mix")
_BEST_LR = {"mse": -3.0, "l1": -2.8, "ssim": -3.2, "ms_ssim": -3.3}
_GAIN = {"mse": 0.0, "l1": -0.2, "ssim": -0.6, "ms_ssim": -0.1, "mix": 0.2}


def _rate(decades: float) -> float:
    """Loss by a learning rate so many decades above the best: a slope below, a cliff above."""
    return 3.0 * decades**2 + (12.0 * max(0.0, decades - 0.6) if decades > 0 else 0.0)


@dataclass(frozen=True)
class Landscape:
    """A search space and the value, without noise, of its points; higher is better."""

    space: Mapping[str, BaseDistribution]
    value: Callable[[Values], float]
    exists: Callable[[str, Values], bool] = lambda key, values: True


def _full(v: Values) -> float:
    """As `sweep=full`: loss, learning rate, latent size and beta."""
    loss, lr, beta = v["loss"], math.log10(v["lr"]), math.log10(v["beta"])
    decades = lr - _BEST_LR.get(loss, -3.1) - 0.35 * beta
    size = 2.5 * math.exp(-v["latent_dim"] / 24)
    return 20 + _GAIN.get(loss, -0.4) - _rate(decades) - size - 4.0 * (beta + 0.25) ** 2


def _conditional(v: Values) -> float:
    """The same with a window that only structural losses have."""
    window = 0.0 if "window_size" not in v else 0.08 * abs(v["window_size"] - 9)
    return _full(v) - window + (0.5 if "window_size" in v else 0.0)


def _trade(v: Values) -> float:
    """Numbers only, coupled: lr with batch size and weight decay, beta with warm-up."""
    lr, decay = math.log10(v["lr"]), math.log10(v["weight_decay"])
    batch, beta = math.log2(v["batch_size"]), math.log10(v["beta"])
    decades = lr + 3.0 - 0.3 * (batch - 6) / 2
    coupled = 0.8 * (decay + 4 + 0.8 * decades) ** 2
    warm = 3.0 * (beta + 0.3 - 0.02 * v["warmup"]) ** 2
    return 20 - _rate(decades) - coupled - warm - 0.1 * (batch - 6) ** 2


_FULL: dict[str, BaseDistribution] = {
    "loss": CategoricalDistribution(LOSSES),
    "lr": FloatDistribution(1e-4, 1e-2, log=True),
    "latent_dim": CategoricalDistribution((8, 16, 32, 64, 128)),
    "beta": FloatDistribution(0.25, 4, log=True),
}
LANDSCAPES = {
    "full": Landscape(_FULL, _full),
    "conditional": Landscape(
        {**_FULL, "window_size": IntDistribution(5, 13, step=2)},
        _conditional,
        lambda key, values: key != "window_size" or "ssim" in values["loss"],
    ),
    "numbers": Landscape(
        {
            "lr": FloatDistribution(1e-4, 1e-2, log=True),
            "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
            "batch_size": IntDistribution(16, 256, log=True),
            "beta": FloatDistribution(0.25, 4, log=True),
            "warmup": IntDistribution(0, 20),
        },
        _trade,
    ),
}


def best(landscape: Landscape) -> float:
    """The highest value, by many random points and a descent from the best of them."""
    generator = np.random.default_rng(0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [_drawn(study.ask(), landscape) for _ in range(2000)]
    top = sorted(points, key=landscape.value)[-10:]
    for width in np.geomspace(0.3, 0.001, 400):
        top = [_better(point, landscape, width, generator) for point in top]
    return max(map(landscape.value, top))


def _better(
    point: Values, landscape: Landscape, width: float, generator: np.random.Generator
) -> Values:
    moved = dict(point)
    for key in moved:
        space = landscape.space[key]
        if isinstance(space, FloatDistribution):
            span = math.log(space.high / space.low)
            value = moved[key] * math.exp(width * span * generator.normal())
            moved[key] = min(max(value, space.low), space.high)
        elif isinstance(space, IntDistribution) and generator.random() < 0.5:
            value = moved[key] + space.step * round(generator.normal() * (1 + 20 * width))
            moved[key] = min(max(value, space.low), space.high)
    return max(point, moved, key=landscape.value)


def _drawn(trial: optuna.Trial, landscape: Landscape) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, distribution in landscape.space.items():
        if landscape.exists(key, values):
            values[key] = trial._suggest(key, distribution)
    return values


def regrets(job: tuple[str, str, int, int, tuple[int, ...]]) -> list[float]:
    """Of one search, after so many ended trials each.

    Args:
        job: landscape, sampler, workers, seed, numbers of trials.
    """
    name, sampler, workers, seed, looks = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    import warnings

    warnings.simplefilter("ignore")
    landscape = LANDSCAPES[name]
    noise = random.Random(seed)
    # As workers are: each has random numbers of its own.
    samplers = [
        optuna.samplers.RandomSampler(seed=seed * 1000 + worker)
        if sampler == RANDOM
        else optuna.samplers.TPESampler(seed=seed * 1000 + worker, **SAMPLERS[sampler])
        for worker in range(workers)
    ]
    study = optuna.create_study(direction="maximize")
    running: list[tuple[float, int, int, optuna.Trial, dict[str, Any]]] = []
    asked = 0

    def ask(now: float, worker: int) -> None:
        nonlocal asked
        study.sampler = samplers[worker]
        trial = study.ask()
        values = _drawn(trial, landscape)
        heapq.heappush(running, (now + noise.lognormvariate(0, 0.3), asked, worker, trial, values))
        asked += 1

    for worker in range(workers):
        ask(0.0, worker)
    seen, found, regret = -math.inf, -math.inf, []
    for ended in range(1, max(looks) + 1):
        now, _, worker, trial, values = heapq.heappop(running)
        true = landscape.value(values)
        observed = true + noise.gauss(0, NOISE)
        study.tell(trial, observed)
        if observed > seen:
            seen, found = observed, true
        if ended in looks:
            regret.append(found)
        ask(now, worker)
    return regret


def interval(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """The mean and its 95 % interval by the bootstrap over seeds."""
    generator = np.random.default_rng(0)
    means = generator.choice(values, (2000, len(values))).mean(axis=1)
    return float(values.mean()), *(float(q) for q in np.quantile(means, (0.025, 0.975)))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 40, 100])
    parser.add_argument("--landscapes", nargs="+", choices=LANDSCAPES, default=[*LANDSCAPES])
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    looks = tuple(arguments.trials)
    base = next(iter(SAMPLERS))
    with Pool(arguments.processes) as pool:
        for name in arguments.landscapes:
            top = best(LANDSCAPES[name])
            for workers in arguments.workers:
                print(f"\n{name}, {workers} workers, {arguments.seeds} seeds: regret in dB")
                print(f"{'':<27}" + "".join(f"{f'{n} trials':>26}" for n in looks))
                first: np.ndarray[Any, Any] | None = None
                for sampler in (*SAMPLERS, RANDOM):
                    jobs = [(name, sampler, workers, s, looks) for s in range(arguments.seeds)]
                    found = top - np.array(pool.map(regrets, jobs, chunksize=4))
                    first = found if first is None else first
                    cells = [
                        "{:.3f} ({:.3f} to {:.3f})".format(*interval(found[:, i]))
                        for i in range(len(looks))
                    ]
                    print(f"{sampler:<27}" + "".join(f"{cell:>26}" for cell in cells), flush=True)
                    if sampler != base:
                        less = [
                            "{:+.3f} ({:+.3f} to {:+.3f})".format(*interval((found - first)[:, i]))
                            for i in range(len(looks))
                        ]
                        print(f"{f'  less {base}':<27}" + "".join(f"{c:>26}" for c in less))


if __name__ == "__main__":
    main()
