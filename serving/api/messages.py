"""What goes in and out of the API as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Latent = Annotated[
    list[Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]],
    Field(min_length=1, max_length=4096, fail_fast=True),
]
Seed = Annotated[int, Field(ge=0, lt=2**53)]


class GenerateRequest(BaseModel):
    """New images, drawn from the prior."""

    model_config = ConfigDict(extra="forbid", strict=True)

    count: int = Field(64, ge=1, description="images; the service's limit is in /v1/model")
    seed: Seed | None = Field(None, description="the same seed gives the same images")
    temperature: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="standard deviation of the draws"
    )


class DecodeRequest(BaseModel):
    """Points of the latent space, to be shown as images."""

    model_config = ConfigDict(extra="forbid", strict=True)

    latents: Annotated[list[Latent], Field(min_length=1, max_length=4096, fail_fast=True)]


class Images(BaseModel):
    """Images as PNG in base64, and their latents."""

    images: list[str]
    latents: list[list[float]]


class Generated(Images):
    """New images and how to see them again."""

    seed: int
    temperature: float


class Encoded(BaseModel):
    """The posterior of each photo."""

    mean: list[list[float]]
    log_variance: list[list[float]]


class Reconstructions(Images):
    """What the model sees of each photo, what it makes of it, and how far that is off."""

    photos: list[str]
    metrics: list[dict[str, float | None]]


class Unit(BaseModel):
    """A latent unit."""

    unit: int
    kl: float | None = Field(description="nats per validation image; null without a record")


class Limits(BaseModel):
    """Limits of a request."""

    max_images: int
    max_bytes: int
    max_pixels: int
    max_temperature: float
    timeout_seconds: float


class Measure(BaseModel):
    """How a metric is shown."""

    title: str
    unit: str = Field(description="such as dB; may be empty")
    direction: Literal["maximize", "minimize"]


class ModelInfo(BaseModel):
    """The model that is served: what it is, and what it was trained on, how and how well."""

    version: str = Field(description="of the checkpoint's SHA-256")
    network: str
    image_shape: list[int]
    latent_dim: int
    informative_units: list[Unit]
    limits: Limits
    loss: dict[str, Any] | None
    parameters: dict[str, Any] | None
    metrics: dict[str, dict[str, float | None]] | None
    measures: dict[str, Measure] = Field(description="of the metrics, by name")
    objective: dict[str, Any] | None
    data: dict[str, Any] | None
    code: dict[str, Any] | None
    packages: dict[str, str] | None


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
