"""Whether the photos that people send are like those that the model was validated on."""

from __future__ import annotations

import ipaddress
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.metrics.latent import ACTIVE_VARIANCE
from serving.model.trained import Statistics

SHARE = 16
"""Photos of one client that are looked at: a sixteenth of the usual window."""
FEWEST = 8 * SHARE
"""Photos before anything is said of them, so that an eighth at most are of one client."""
_FARTHEST = 4.0
"""What one photo counts for at most; a true one of a single unit exceeds it once in twenty."""


def reconstruction_drift(recent: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Kolmogorov and Smirnov's distance of two samples of squared errors, (N,) and (M,).

    The largest difference of their distribution functions: 0 for equal samples, 1 for samples
    that do not overlap. Like photos, 50 of them against 100, exceed 0.35 about once in a thousand.
    """
    steps = np.concatenate([recent, reference])
    shares = [
        np.searchsorted(np.sort(sample), steps, side="right") / len(sample)
        for sample in (recent, reference)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def latent_drift(means: NDArray[np.float64], statistics: Statistics) -> float | None:
    """Mean over photos and active units of the squared distance from the reference's mean.

    In variances of the reference: 1 for photos like those of the reference, more for photos from
    elsewhere or with more variety, less for photos that are all alike. No photo counts for more
    than 4, so that an eighth of them move it by half a variance at most.

    Args:
        means: of the posteriors of recent photos, (N, L).
        statistics: of the validation images.

    Returns:
        None if no unit is active, or the record is too old to know the units' means.
    """
    active = statistics.variance > ACTIVE_VARIANCE
    if statistics.mean is None or not active.any():
        return None
    distance = (means - statistics.mean)[:, active] ** 2 / statistics.variance[active]
    return float(distance.mean(axis=1).clip(max=_FARTHEST).mean())


@dataclass(frozen=True, eq=False)  # arrays cannot be compared as a whole
class _Photo:
    client: str
    mse: float
    mean: NDArray[np.float64]


class Drift:
    """The last photos, against the validation images.

    Of one client only the last few are looked at, so that nobody alone makes the others look
    different from what they are.

    Args:
        statistics: of the validation images.
        window: photos that are looked at.
    """

    def __init__(self, statistics: Statistics, window: int) -> None:
        self._statistics = statistics
        self._recent: deque[_Photo] = deque(maxlen=window)

    @property
    def photos(self) -> int:
        """In the window."""
        return len(self._recent)

    def add(self, address: str, mse: float, mean: NDArray[np.float64]) -> None:
        """Add a photo of a client by its reconstruction's error and its posterior's mean, (L,)."""
        client = client_of(address)
        own = [photo for photo in self._recent if photo.client == client]
        if len(own) >= SHARE:
            self._recent.remove(own[0])
        self._recent.append(_Photo(client, mse, mean))

    def measure(self) -> dict[str, float]:
        """`reconstruction` and `latent`, each if it can be told."""
        if self.photos < FEWEST:
            return {}
        errors = np.array([photo.mse for photo in self._recent])
        means = np.stack([photo.mean for photo in self._recent])
        values = {
            "reconstruction": reconstruction_drift(errors, self._statistics.mse),
            "latent": latent_drift(means, self._statistics),
        }
        return {kind: value for kind, value in values.items() if value is not None}


def client_of(address: str) -> str:
    """Whose an address is: a subscriber of IPv6 has 2^64 of them (RFC 6177)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a proxy may say anything
        return address[:100]
    return str(ipaddress.ip_network((ip, 64 if ip.version == 6 else 32), strict=False))
