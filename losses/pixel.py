"""Distances that compare pixel with pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from losses import _options
from losses.distance import Distance, per_image_mean


class MSE(Distance):
    """Mean squared error, in [0, 1]: the negative log-likelihood of a Gaussian, up to scale."""

    name = "mse"

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image_mean((x_hat - x).square())


class L1(Distance):
    """Mean absolute error, in [0, 1]: the negative log-likelihood of a Laplacian, up to scale."""

    name = "l1"

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image_mean((x_hat - x).abs())


class Charbonnier(Distance):
    """L1 made smooth at 0: the mean of `sqrt(e^2 + epsilon^2) - epsilon`, in [0, 1).

    Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed
    imaging", 1994, with the `epsilon` of 1e-3 of LapSRN (Lai et al., 2017). `epsilon` is subtracted
    so that identical images have distance 0. Not Kornia's: `kornia_charbonnier` fixes epsilon = 1.
    """

    name = "charbonnier"

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = _options.positive("epsilon", epsilon)

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        squared = (x_hat - x).square()
        # The same number as sqrt(..) - epsilon, which would cancel for small errors.
        root = torch.sqrt(squared + self.epsilon**2)
        return per_image_mean(squared / (root + self.epsilon))
