"""Trials from Weights & Biases, through its public API (wandb 0.31)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from analysis.runs import Broken
from analysis.sources.found import Findings, Found, Row, as_columns
from experiments.errors import UserError
from experiments.record import KL_WEIGHT, STATUSES, at_full_weight, flat

_ADDRESS = re.compile(r"wandb://(?P<path>[^/#?]+/[^/#?]+)(/sweeps/(?P<sweep>[^/#?]+))?/?")
_STATUSES = {
    "finished": "completed",
    "running": "running",
    "failed": "failed",
    "pending": "waiting",
}
_TIMEOUT = 30  # seconds a request may take
_AT_ONCE = 8  # requests for histories
_ROWS = 10_000  # of a history; W&B thins out longer ones
_STEP = "trainer/global_step"


def read(source: Any) -> Findings:
    """The trials of a W&B project or sweep.

    Args:
        source: `wandb://<entity>/<project>`, `wandb://<entity>/<project>/sweeps/<id>`, or an
            iterable of the API's runs, as `wandb.Api().runs(...)` returns.

    Raises:
        UserError: it is none of these, W&B cannot be reached or refuses, or there are no runs.
    """
    import wandb

    name = source if isinstance(source, str) else f"W&B runs {getattr(source, 'project', '')}"
    try:
        runs = list(_runs(source))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            loaded = list(pool.map(_loaded, runs))
    except (wandb.Error, ValueError, OSError) as error:  # OSErrors of requests as well
        raise UserError(
            f"a W&B source must be readable, but {name} answered {type(error).__name__}: "
            f"{error}; check the entity, the project and `wandb login`"
        ) from error
    if not runs:
        raise UserError(f"a W&B source must hold runs, but {name} holds none")
    findings = Findings()
    for run, content in zip(runs, loaded, strict=True):
        try:
            findings.trials.append(_found(run, *content, name.rstrip()))
        except ValueError as error:
            findings.broken.append(Broken(run.url or f"{name}/{run.id}", str(error)))
    return findings


def _runs(source: Any) -> Iterable[Any]:
    import wandb

    if not isinstance(source, str):
        if not isinstance(source, Iterable):
            raise UserError(
                "a source must be a path, an address, a study, a sweep or W&B's runs, "
                f"but got {type(source).__name__}"
            )
        return source
    parts = _ADDRESS.fullmatch(source)
    if parts is None:
        raise UserError(
            "a W&B source must be wandb://ENTITY/PROJECT or wandb://ENTITY/PROJECT/sweeps/ID, "
            f"but got {source!r}"
        )
    filters = {"sweep": parts["sweep"]} if parts["sweep"] else None
    runs: Iterable[Any] = wandb.Api(timeout=_TIMEOUT).runs(
        parts["path"], filters=filters, lazy=False
    )
    return runs


def _loaded(run: Any) -> tuple[Row, Row, Sequence[Row]]:
    """Config, summary and history, each of which may be a request."""
    return dict(run.config), dict(run.summary), run.history(samples=_ROWS, pandas=False)


def _found(run: Any, config: Row, summary: Row, logged: Sequence[Row], source: str) -> Found:
    config = as_columns({k: v for k, v in flat(config).items() if not k.startswith("_")})
    if "loss.name" not in config:
        raise ValueError("its config names no loss (loss.name), so it is no run of vaesweep")
    history = _history(logged)
    sweep = getattr(run, "group", None) or config.get("name")
    status = summary.get("status")
    if status not in STATUSES:  # nobody has finished it
        status = _STATUSES.get(run.state, "interrupted")
    row: Row = {
        "source": source,
        "status": status,
        "reason": summary.get("reason"),
        "seed": config.get("seed"),
        "started": getattr(run, "created_at", None),
        "epochs": history[-1]["epoch"] + 1 if history else None,
        "steps": history[-1]["step"] if history else None,
        "seconds/total": summary.get("_runtime"),
        "wandb": run.url or None,
        **_scores(summary, status, history),
    }
    return Found(
        origin=source,
        sweep=None if sweep is None else str(sweep),
        number=None,
        label=f"{sweep}/{run.id}",
        config=config,
        row=row,
        history=history,
        run=run.id,
    )


def _scores(summary: Mapping[str, Any], status: str, history: Sequence[Row]) -> Row:
    """Those of the final evaluation or, of a pruned trial, the best that was logged.

    None of a trial that ended while the KL's weight warmed up.
    """
    final = {
        key.removeprefix("final/"): value
        for key, value in summary.items()
        if key.startswith(("final/val/", "final/test/")) and isinstance(value, int | float)
    }
    if final or status != "pruned" or (history and not at_full_weight(history)):
        return final
    best = {key: _best(value) for key, value in summary.items() if key.startswith("val/")}
    return {key: value for key, value in best.items() if value is not None}


def _best(value: Any) -> float | None:
    """A summary's value: {"max": 19.5} where W&B was told which way is better."""
    if hasattr(value, "items"):
        value = next((v for k, v in value.items() if k in ("max", "min")), None)
    return value if isinstance(value, int | float) else None


def _history(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The validations, of which W&B may hold the same again after a resume."""
    by_epoch: dict[int, Row] = {}
    for row in rows:
        values = {
            key: value
            for key, value in row.items()
            if (key.startswith("val/") or key == KL_WEIGHT)
            and (value is None or isinstance(value, int | float))
        }
        if values and row.get("epoch") is not None:
            epoch = int(row["epoch"])
            logged = row.get(_STEP)  # that of the last step before the validation, from 0
            step = None if logged is None else int(logged) + 1
            by_epoch[epoch] = {"epoch": epoch, "step": step, **values}
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]
