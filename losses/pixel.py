"""Distances of each pixel on its own."""

from __future__ import annotations

from torch import Tensor

from losses.distance import Distance, above_zero, per_image


class MSE(Distance):
    """Mean squared error, in [0, 1]: `mean((x_hat - x)^2)`."""

    degree = 2.0

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image((x_hat - x).square())


class L1(Distance):
    """Mean absolute error, in [0, 1]: `mean(|x_hat - x|)`."""

    degree = 1.0

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image((x_hat - x).abs())


class Charbonnier(Distance):
    """Charbonnier distance: `mean(sqrt((x_hat - x)^2 + epsilon^2) - epsilon)`.

    L1 with its corner rounded off (Charbonnier et al. 1994, "Two deterministic half-quadratic
    regularization algorithms for computed imaging"), as in super-resolution (Lai et al. 2017).
    `kornia_charbonnier` is the same with epsilon 1.

    Args:
        epsilon: residuals well below it are squared, well above it counted as they are.

    Raises:
        ValueError: epsilon is not above 0.
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = above_zero("epsilon", epsilon)

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        squared = (x_hat - x).square()
        # s / (sqrt(s + e^2) + e) is sqrt(s + e^2) - e without its cancellation.
        return per_image(squared / ((squared + self.epsilon**2).sqrt() + self.epsilon))
