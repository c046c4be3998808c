"""Whether the photos that people send are like those that the model was validated on."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from experiments.metrics.latent import ACTIVE_VARIANCE
from serving.model.trained import Statistics

FEWEST = 50
"""Photos before anything is said of them."""


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
    elsewhere or with more variety, less for photos that are all alike.

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
    return float(distance.mean())


class Drift:
    """The last photos, against the validation images.

    Args:
        statistics: of the validation images.
        window: photos that are looked at.
    """

    def __init__(self, statistics: Statistics, window: int) -> None:
        self._statistics = statistics
        self._mse: deque[float] = deque(maxlen=window)
        self._means: deque[NDArray[np.float64]] = deque(maxlen=window)

    @property
    def photos(self) -> int:
        """In the window."""
        return len(self._mse)

    def add(self, mse: float, mean: NDArray[np.float64]) -> None:
        """Add a photo by its reconstruction's squared error and its posterior's mean, (L,)."""
        self._mse.append(mse)
        self._means.append(mean)

    def measure(self) -> dict[str, float]:
        """`reconstruction` and `latent`, each if it can be told."""
        if self.photos < FEWEST:
            return {}
        values = {
            "reconstruction": reconstruction_drift(np.array(self._mse), self._statistics.mse),
            "latent": latent_drift(np.stack(self._means), self._statistics),
        }
        return {kind: value for kind, value in values.items() if value is not None}
