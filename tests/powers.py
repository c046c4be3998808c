"""Distances of a user's own: multiples and powers of the squared and the absolute error."""

from __future__ import annotations

from torch import Tensor


def power(
    x_hat: Tensor, x: Tensor, *, norm: float = 2, exponent: float = 1, factor: float = 1
) -> Tensor:
    """`factor * mean(|x_hat - x|^norm)^exponent` of each image."""
    return factor * (x_hat - x).abs().pow(norm).flatten(1).mean(1).pow(exponent)
