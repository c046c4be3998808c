"""What a service allows and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Of a service.

    Attributes:
        timeout: seconds that a request may take, its body included.
        queue: requests that may wait for the network; one more is answered 429.
        batch: images computed together at most.
        max_bytes: of a request's body.
        max_pixels: of an uploaded photo, read from its header before it is decoded.
        max_images: in one request.
        max_temperature: of draws.
        token: that requests must bear; None asks for none.
        cors: origins whose pages may call the API.
        drift_window: photos that drift is measured over.
        drift_reconstruction: drift above which the photos count as different, see `Drift`.
        drift_latent: the same for the latent distribution.
    """

    timeout: float = 10.0
    queue: int = 64
    batch: int = 64
    max_bytes: int = 16 * 2**20
    max_pixels: int = 40_000_000
    max_images: int = 256
    max_temperature: float = 3.0
    token: str | None = None
    cors: tuple[str, ...] = ()
    drift_window: int = 256
    drift_reconstruction: float = 0.35
    drift_latent: float = 1.5
