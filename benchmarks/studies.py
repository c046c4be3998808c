"""Large studies for the benchmarks: thousands of finished trials, written at once."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Rows = list[dict[str, Any]]
_EPOCHS = (3, 9, 20)  # at which the trials have reported


def space() -> Any:
    """A search over loss, learning rate and latent size."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    from sweeps.space.dimensions import Dimension, Space

    losses, sizes = ("mse", "l1", "ssim", "kornia_ssim"), (8, 16, 32, 64)
    return Space(
        (
            Dimension("loss", CategoricalDistribution(losses), losses),
            Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False),
            Dimension("latent_dim", CategoricalDistribution(sizes), tuple(map(str, sizes))),
        )
    )


def fill(study: Any, count: int, grid: Any = None) -> None:
    """Give a study in a database so many finished trials over `space()`, or the first of a grid.

    They are written to Optuna's tables directly: one by one they would take several minutes.
    """
    from optuna.storages._rdb import models

    def insert(model: Any, rows: Rows) -> None:
        connection.execute(model.__table__.insert(), rows)

    generator, searched = random.Random(0), space() if grid is None else grid.space
    began = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=count)
    with study._storage._backend.engine.begin() as connection:
        insert(
            models.TrialModel,
            [
                {
                    "number": number,
                    "study_id": study._study_id,
                    "state": "COMPLETE",
                    "datetime_start": began + timedelta(seconds=number),
                    "datetime_complete": began + timedelta(seconds=number + 1),
                }
                for number in range(count)
            ],
        )
        trials = models.TrialModel.__table__.c
        found = trials.trial_id.table.select().where(trials.study_id == study._study_id)
        ids = [row.trial_id for row in connection.execute(found.order_by(trials.number))]
        drawn = [grid[n][0] if grid else _draw(generator) for n in range(count)]
        values = [generator.gauss(18, 2) for _ in ids]
        insert(models.TrialParamModel, _params(ids, drawn, searched))
        insert(models.TrialUserAttributeModel, _attributes(ids, drawn))
        insert(
            models.TrialValueModel,
            [
                {"trial_id": id_, "objective": 0, "value": value, "value_type": "FINITE"}
                for id_, value in zip(ids, values, strict=True)
            ],
        )
        insert(
            models.TrialIntermediateValueModel,
            [
                {
                    "trial_id": id_,
                    "step": epoch,
                    "intermediate_value": value * epoch / _EPOCHS[-1],
                    "intermediate_value_type": "FINITE",
                }
                for id_, value in zip(ids, values, strict=True)
                for epoch in _EPOCHS
            ],
        )


def _draw(generator: random.Random) -> dict[str, Any]:
    """One trial's values."""

    def value(dimension: Any) -> Any:
        if dimension.enumerated:
            return generator.choice(dimension.distribution.choices)
        return 10 ** generator.uniform(-4, -2)

    return space().fill(value)  # type: ignore[no-any-return]


def _params(ids: list[int], drawn: list[dict[str, Any]], searched: Any) -> Rows:
    from optuna.distributions import distribution_to_json

    distributions = {d.key: d.distribution for d in searched.dimensions}
    texts = {key: distribution_to_json(found) for key, found in distributions.items()}
    return [
        {
            "trial_id": id_,
            "param_name": key,
            "param_value": distributions[key].to_internal_repr(value),
            "distribution_json": texts[key],
        }
        for id_, values in zip(ids, drawn, strict=True)
        for key, value in values.items()
    ]


def _attributes(ids: list[int], drawn: list[dict[str, Any]]) -> Rows:
    return [
        {"trial_id": id_, "key": key, "value_json": json.dumps(value)}
        for number, (id_, values) in enumerate(zip(ids, drawn, strict=True))
        for key, value in _attributes_of(number, values).items()
    ]


def _attributes_of(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a worker leaves, of about their size."""
    from sweeps.space.points import point_name
    from sweeps.storage import attributes

    return {
        attributes.POINT: point_name(values, None),
        attributes.DIRECTORY: f"/data/outputs/vae/sweep/{number}",
        attributes.EPOCHS: _EPOCHS[-1],
        attributes.IDENTITY: f"{number:064x}",
        attributes.LEASE: {"worker": "0-0", "host": "host 0", "pid": 1, "born": "1", "beat": 9},
        attributes.OVERRIDES: [f"{key}={value}" for key, value in values.items()],
        attributes.SEED: 0,
        attributes.SUMMARY: {
            "status": "completed",
            "epochs": _EPOCHS[-1],
            "parameters": {f"group.parameter_{i}": i / 7 for i in range(60)},
            "metrics": {"val": {f"metric_{i}": i / 7 for i in range(9)}},
            "timings": {"total_seconds": 1.0},
        },
    }
