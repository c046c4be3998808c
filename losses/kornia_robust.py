"""Kornia's robust pixel losses: members of one family, Barron's general robust loss.

Barron, "A general and adaptive robust loss function", CVPR 2019, with shape alpha and scale `c`:
an error well below `c` counts as half its square (in units of c), one well above it counts less the
smaller alpha is. Kornia fixes c = 1, where errors of images in [0, 1] all lie in the quadratic part
and these losses train much as `mse` does; `c` of 0.1 or less makes them robust. The value is the
mean over pixels and channels of the loss of `(x_hat - x) / c`.
"""

from __future__ import annotations

from collections.abc import Callable

from kornia.losses import cauchy_loss, charbonnier_loss, geman_mcclure_loss, welsch_loss
from torch import Tensor

from losses import _options
from losses.distance import Distance, per_image_mean


class _Robust(Distance):
    def __init__(self, c: float = 1.0) -> None:
        super().__init__()
        self.c = _options.positive("c", c)

    def _mean(self, loss: Callable[..., Tensor], x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image_mean(loss(x_hat / self.c, x / self.c, reduction="none"))


class KorniaCharbonnier(_Robust):
    """`sqrt(e^2 + 1) - 1`, e in units of `c` (alpha = 1): grows linearly."""

    name = "kornia_charbonnier"

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return self._mean(charbonnier_loss, x_hat, x)


class KorniaCauchy(_Robust):
    """`log(e^2 / 2 + 1)`, e in units of `c` (alpha = 0): grows logarithmically."""

    name = "kornia_cauchy"

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return self._mean(cauchy_loss, x_hat, x)


class KorniaGemanMcClure(_Robust):
    """`2 e^2 / (e^2 + 4)`, e in units of `c` (alpha = -2): stays below 2."""

    name = "kornia_geman_mcclure"

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return self._mean(geman_mcclure_loss, x_hat, x)


class KorniaWelsch(_Robust):
    """`1 - exp(-e^2 / 2)`, e in units of `c` (alpha = -infinity): stays below 1."""

    name = "kornia_welsch"

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return self._mean(welsch_loss, x_hat, x)
