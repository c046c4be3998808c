"""The evidence lower bound that does not depend on which loss trained a model."""

from __future__ import annotations

import math

_BIN = 1 / 255  # an 8-bit value stands for an interval of that width


def elbo(squared_error: float, kl: float, values: int) -> float:
    """Lower bound on the mean log-probability of 8-bit images, nats an image.

    The decoder's distribution is a Gaussian around the reconstruction whose variance, one for all
    values of all images, is the best for these images. An 8-bit value stands for an interval, over
    which the density is averaged (uniform dequantisation: Theis, van den Oord and Bethge 2016, "A
    note on the evaluation of generative models"), so that it remains a bound, below 0, however
    small the error.

    Args:
        squared_error: mean over values and images, of reconstructions that are decoded from
            samples of the posterior, values in [0, 1].
        kl: of the posterior from the prior, nats an image.
        values: C * H * W of an image.
    """
    variance = squared_error + _BIN**2 / 12
    per_value = math.log(_BIN) - 0.5 * (1 + math.log(2 * math.pi * variance))
    return values * per_value - kl


def bits_per_dim(squared_error: float, kl: float, values: int) -> float:
    """The same bound as bits a value, of which an uncompressed one has 8."""
    return -elbo(squared_error, kl, values) / values / math.log(2)
