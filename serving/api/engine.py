"""The model behind a service: what its requests ask for, batched."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from experiments.metrics.reconstruction import reconstruction_metrics
from experiments.scoring.evaluation import to_uint8
from serving.api.batching import Batcher
from serving.api.settings import Settings
from serving.api.uploads import Decoders, Read
from serving.model import codec, latents
from serving.model.checkpoints import Model
from serving.monitoring.drift import SHARE, Drift
from serving.monitoring.telemetry import Telemetry

T = TypeVar("T")


@dataclass(frozen=True)
class Reconstructed:
    """Photos (N, C, H, W), uint8, and what the model makes of them.

    Attributes:
        x: the photos in the model's shape.
        x_hat: their reconstructions.
        mean: of their posteriors, (N, L).
        metrics: of each reconstruction, N dicts; None for one that is NaN or infinite.
    """

    x: Tensor
    x_hat: Tensor
    mean: Tensor
    metrics: list[dict[str, float | None]]


class Engine:
    """Runs the network in one thread and everything else (photos, PNG) in others."""

    def __init__(self, model: Model, settings: Settings, telemetry: Telemetry) -> None:
        self.model = model
        self._telemetry = telemetry
        self._thread = _one_thread()
        self._photos = Decoders(model, settings)
        limits = {"most": settings.batch, "waiting": settings.queue}
        observe = telemetry.batch.observe
        self.decoding = Batcher(partial(self._beside, self._decode), observe=observe, **limits)
        self.encoding = Batcher(partial(self._beside, self._encode), observe=observe, **limits)
        statistics = model.trained.statistics if model.trained is not None else None
        self._drift = Drift(statistics, settings.drift_window) if statistics is not None else None
        telemetry.watch_queues(
            settings.queue,
            decoder=lambda: self.decoding.waiting,
            encoder=lambda: self.encoding.waiting,
        )
        telemetry.set_thresholds(
            reconstruction=settings.drift_reconstruction, latent=settings.drift_latent
        )

    @property
    def processes(self) -> list[int]:
        """Numbers of those beside this one."""
        return self._photos.processes

    def warm_up(self) -> None:
        """Run everything once, so that the first request is as fast as the others."""
        self._photos.start()
        z = latents.draw(1, self.model.network.latent_dim, seed=0)
        x = to_uint8(self._decode(z))
        self._encode(x)
        reconstruction_metrics(x.float() / 255, x.float() / 255)

    def close(self) -> None:
        """End threads and processes; a service that is started again gets others."""
        self._photos.close()
        ended, self._thread = self._thread, _one_thread()
        ended.shutdown(wait=True, cancel_futures=True)

    async def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8, of latents (N, L).

        Raises:
            QueueFullError: too many requests wait.
        """
        return to_uint8(await self.decoding(z))

    async def encode(self, photos: Sequence[Read]) -> tuple[Tensor, Tensor, Tensor]:
        """Images, uint8, and the means and log-variances of the posteriors of photos.

        Raises:
            BadImageError: one is no image that can be used.
            QueueFullError: too many requests wait.
        """
        x = torch.stack([await self._photos.decode(photo) for photo in photos])
        mean, log_variance = (await self.encoding(x)).chunk(2, dim=1)
        return x, mean, log_variance

    async def reconstruct(self, photos: Sequence[Read], client: str) -> Reconstructed:
        """What the model makes of a client's photos; they count for drift.

        Raises:
            BadImageError: one is no image that can be used.
            QueueFullError: too many requests wait.
        """
        x, mean, _ = await self.encode(photos)
        x_hat = await self.decoding(mean)
        # Where the network is, as two that use all cores at once hinder each other.
        metrics = await self._beside(reconstruction_metrics, x_hat, x.float() / 255)
        columns = {name: values.tolist() for name, values in metrics.items()}
        self._watch(client, columns["mse"], mean)
        rows = [
            {name: v[i] if math.isfinite(v[i]) else None for name, v in columns.items()}
            for i in range(len(x))
        ]
        return Reconstructed(x, to_uint8(x_hat), mean, rows)

    async def _beside(self, function: Callable[..., T], *tensors: Tensor) -> T:
        """Call a function in the network's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *tensors)

    def _decode(self, z: Tensor) -> Tensor:
        return codec.decode(self.model.network, z)

    def _encode(self, x: Tensor) -> Tensor:
        return torch.cat(codec.encode(self.model.network, x), dim=1)

    def _watch(self, client: str, errors: list[float], mean: Tensor) -> None:
        if self._drift is None:
            return
        for error, point in list(zip(errors, mean.double().numpy(), strict=True))[-SHARE:]:
            self._drift.add(client, error, point)
        self._telemetry.set_drift(self._drift.photos, self._drift.measure())


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="network")
