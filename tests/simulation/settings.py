"""What is swept on a day, drawn from its seed."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from sweeps.settings import Settings
from sweeps.space.dimensions import Space
from tests.simulation.programs import LISTED, RATES, SIZES, Setting

_SPACES = {
    "grid": Space((SIZES, LISTED)),
    "search": Space((RATES,)),
    "choice": Space((SIZES, LISTED)),
    "two": Space((SIZES, RATES)),
}


def draw(
    random: Random,
    *,
    space: str | None = None,
    patience: int | None = None,
    confirm: int | None = None,
    objectives: int | None = None,
    timeout: float | None = None,
    has_common_lock: bool | None = None,
    compare: bool | None = None,
    promotes: bool | None = None,
) -> Setting:
    """A sweep, of which only what is None is drawn.

    Args:
        random: of the day.
        space: that is searched, by its name.
        patience: `stop_after_no_improvement`.
        confirm: how many of the best are confirmed.
        objectives: how many.
        timeout: of the commands, in what all trials need.
        has_common_lock: the study's lock reaches all machines.
        compare: the levels of the latent size are searched each for itself.
        promotes: trials are pruned for now.
    """
    kind = space or random.choice(("grid", "grid", "search", "search", "choice", "two"))
    grid = kind == "grid"
    n_trials = None if grid else random.randint(1, 4)
    if patience is None and kind in ("search", "two"):
        patience = random.choice((None, None, None, 2))
    if confirm is None:
        confirm = random.choice((0, 0, 0, 0, 0, 0, 1, 2))
    if objectives is None:
        objectives = random.choice((1, 1, 1, 1, 2))
    if timeout is None:
        timeout = random.choice((None, None, None, None, None, 0.3, 0.8))
    epochs, seconds = random.randint(2, 3), random.choice((1.0, 6.0, 25.0))
    workers = random.randint(1, 3)
    settings = Settings(
        n_trials=n_trials if patience is None else 7,
        timeout=None if timeout is None else 4 * timeout * epochs * seconds / workers,
        confirm=confirm,
        confirm_seeds=random.choice((2, 3)),
        stop_after_no_improvement=patience,
        max_failure_rate=1.0,
        max_retries=random.choice((0, 2, 2, 2, 5)),
    )
    odd = random.random() < 0.4
    kinds = [random.choice(("", "", "fail", "nan", "bad")) if odd else "" for _ in range(5)]

    def behaviour(overrides: Any) -> str:
        return kinds[sum(map(ord, "".join(sorted(overrides)))) % 5]

    if has_common_lock is None:
        has_common_lock = random.random() < 0.9
    if compare is None:
        compare = kind == "choice" and random.random() < 0.5
    if promotes is None:
        promotes = patience is None and (objectives > 1 or random.random() < 0.3)
    keys = ("latent_dim",) if compare else ()
    if keys:
        settings = replace(settings, n_trials=max(2, settings.n_trials or 0))
    return Setting(
        _SPACES[kind], settings, grid, ("psnr", "ssim")[:objectives], epochs, seconds, workers,
        behaviour, has_common_lock, keys, promotes,
    )  # fmt: skip
