"""What a service says of its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.metrics import METRICS
from serving.api.messages import Limits, Measure, ModelInfo, Unit
from serving.api.settings import Settings
from serving.model.checkpoints import Model
from serving.model.units import informative

_UNITS = 12
_SHOWN = ("lr", "latent_dim", "beta", "batch_size", "max_epochs", "seed", "model.", "optimizer.")
_DATA = ("fingerprint", "image_shape", "train", "val", "test")


def describe(model: Model, settings: Settings) -> ModelInfo:
    """Everything but where things lie on this machine."""
    result = model.trained.result if model.trained is not None else None
    statistics = model.trained.statistics if model.trained is not None else None
    units = [
        Unit(unit=unit, kl=float(statistics.kl[unit]) if statistics is not None else None)
        for unit in informative(model, _UNITS)
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
        loss=_loss(result),
        parameters=_parameters(result),
        metrics=result.get("metrics") if result else None,
        measures={
            name: Measure(title=one.title, unit=one.unit, direction=one.direction)
            for name, one in METRICS.items()
        },
        objective=result.get("objective") if result else None,
        data=_data(result),
        code=result.get("code") if result else None,
        packages=result.get("packages") if result else None,
    )


def _loss(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if result is None:
        return None
    parameters = result["parameters"]
    return {k.removeprefix("loss."): v for k, v in parameters.items() if k.startswith("loss.")}


def _parameters(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {k: v for k, v in result["parameters"].items() if k.startswith(_SHOWN)}


def _data(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The name of the folder is enough; its path is nobody's business."""
    if result is None or not isinstance(result.get("data"), dict):
        return None
    data = result["data"]
    return {"name": Path(str(data.get("source"))).name, **{k: data[k] for k in _DATA if k in data}}
