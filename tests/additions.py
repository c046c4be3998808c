"""Additions as a person would make them, none of which any other module knows."""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from experiments.config.named import DataSource
from experiments.data import ImageSet, load_images
from experiments.data.sources.source import EncodedSource, File
from experiments.metrics import Metric
from experiments.record import Record
from experiments.tracking.loggers import continues_at
from losses.distance import per_image
from models import Entry
from models.network import Network

HERE = "tests.additions"

METRICS = (
    Metric(
        "edges", "Edge error", "minimize", "levels", 0.01, "difference of horizontal gradients",
        "reconstructions", f"{HERE}:edges", home_of=("mse",),
    ),
    Metric(
        "spread", "Spread", "maximize", "", None, "variance of the posterior means",
        "posterior", f"{HERE}:spread", is_descriptive=True,
    ),
    Metric(
        "tone", "Tone", "minimize", "", None, "difference of mean grey levels",
        "samples", f"{HERE}:tone",
    ),
)  # fmt: skip


def edges(x_hat: Tensor, x: Tensor) -> Tensor:
    """Of each image."""
    return per_image((x_hat.diff(dim=3) - x.diff(dim=3)).abs())


def spread(units: Mapping[str, NDArray[np.float64]]) -> float:
    """Over the latent units."""
    return float(units["variance"].mean())


def tone(samples: Tensor, real: Tensor) -> float:
    """Of two sets of images."""
    return abs(float(samples.float().mean() - real.float().mean()))


class Plain(Network):
    """A linear VAE."""

    sides = (32, 48)

    def __init__(
        self, *, image_shape: tuple[int, int, int], latent_dim: int, bias: bool = True
    ) -> None:
        super().__init__(image_shape, latent_dim)
        values = image_shape[0] * image_shape[1] * image_shape[2]
        self.encoder = nn.Linear(values, 2 * latent_dim, bias=bias)
        self.decoder = nn.Linear(latent_dim, values, bias=bias)

    def posterior_parameters(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x.flatten(1))
        return features

    def decode_logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.decoder(z).unflatten(1, self.image_shape)
        return logits


NETWORK = Entry(f"{HERE}:Plain", before={"bias": False})


class Lines(EncodedSource):
    """A file with an encoded picture a line, in base 64."""

    def paths(self) -> list[Path]:
        return [self.root]

    def count(self) -> int:
        return len(self.root.read_text().splitlines())

    def files(self) -> Iterator[File]:
        for number, line in enumerate(self.root.read_text().splitlines()):
            yield str(number), lambda line=line: base64.b64decode(line)  # type: ignore[misc]


def load_negatives(*, root: str, fit: str, **options: Any) -> ImageSet:
    """The user's images with black and white exchanged."""
    found = load_images(root=root, fit=fit, **options)
    return ImageSet(
        images=255 - found.images,
        names=found.names,
        digests=found.digests,
        fingerprint=f"negatives-{found.fingerprint}",
        source="negatives",
        skipped=found.skipped,
    )


NEGATIVES = DataSource(f"{HERE}:load_negatives", ("root", "fit"))


class Memory(Logger):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.pictures: dict[str, tuple[int, ...]] = {}
        self.closed = False

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def encoded(self, picture: NDArray[Any]) -> tuple[int, ...]:
        return picture.shape

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        self.pictures |= pictures


OPENED: list[Memory] = []


@contextmanager
def open_memory(config: Mapping[str, Any], record: Record) -> Generator[Memory, None, None]:
    """As the registry of loggers wants it."""
    OPENED.append(Memory())
    if (first := continues_at(record)) is not None:
        for earlier in OPENED:
            earlier.rows = [row for row in earlier.rows if row[0] < first]
    yield OPENED[-1]
    OPENED[-1].closed = True
