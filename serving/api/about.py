"""What a service says of its model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from experiments.metrics import METRICS
from serving.api.messages import Limits, Measure, ModelInfo, Unit
from serving.api.settings import Settings
from serving.model.checkpoints import Model

_UNITS = 12
_SHOWN = ("lr", "latent_dim", "beta", "batch_size", "max_epochs", "seed", "model.", "optimizer.")
_DATA = ("fingerprint", "image_shape", "train", "val", "test")
_MOST_BYTES = 2**16
"""Of what is told of one part of a record, as JSON."""

log = logging.getLogger(__name__)


def describe(model: Model, settings: Settings) -> ModelInfo:
    """Everything but where things lie on this machine.

    A record comes from wherever the checkpoint does: what is of another kind than it should be is
    left out, with a line in the log.
    """
    result = model.trained.result if model.trained is not None else {}
    statistics = model.trained.statistics if model.trained is not None else None
    units = [
        Unit(unit=unit, kl=float(statistics.kl[unit]) if statistics is not None else None)
        for unit in model.informative_units(_UNITS)
    ]
    return ModelInfo(
        version=model.version,
        network=model.name,
        image_shape=list(model.network.image_shape),
        latent_dim=model.network.latent_dim,
        informative_units=units,
        limits=Limits(
            max_images=settings.max_images,
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_temperature=settings.max_temperature,
            timeout_seconds=settings.timeout,
        ),
        measures={
            name: Measure(title=one.title, unit=one.unit, direction=one.direction)
            for name, one in METRICS.items()
        },
        **{name: _usable(name, result, of) for name, of in _OF_RECORD.items()},
    )


def _usable(name: str, result: Mapping[str, Any], of: Callable[[Mapping[str, Any]], Any]) -> Any:
    """A part of a record, as plain values that JSON can hold; None if it has none."""
    kind = TypeAdapter[Any](ModelInfo.model_fields[name].annotation or Any)
    try:
        text = kind.dump_json(kind.validate_python(of(result)))
        if len(text) > _MOST_BYTES:
            raise ValueError(f"it has {len(text)} bytes, and {_MOST_BYTES} are told")
        return kind.validate_json(text)
    except KeyError:
        return None
    except ValidationError as error:
        wrong = error.errors()[0]
        reason = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
    except Exception as error:  # noqa: BLE001 - whatever a foreign record holds
        reason = str(error)
    log.warning("`%s` of the model's record cannot be told: %.200a", name, reason)
    return None


def _parameters(result: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result["parameters"].items() if k.startswith(_SHOWN)}


def _loss(result: Mapping[str, Any]) -> dict[str, Any]:
    parameters = result["parameters"]
    return {k.removeprefix("loss."): v for k, v in parameters.items() if k.startswith("loss.")}


def _data(result: Mapping[str, Any]) -> dict[str, Any]:
    """The name of the folder is enough; its path is nobody's business."""
    data = result["data"]
    return {"name": Path(str(data.get("source"))).name, **{k: data[k] for k in _DATA if k in data}}


_OF_RECORD: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "loss": _loss,
    "parameters": _parameters,
    "data": _data,
    **{name: itemgetter(name) for name in ("metrics", "objective", "code", "packages")},
}
"""The parts of a record that are told."""
