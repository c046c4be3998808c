"""Kornia's robust losses: the general loss of Barron 2019 on the residual of each pixel.

Of `kornia.losses`, these and the structural ones compare two images and are 0 for identical ones.
The rest do not fit the contract of a distance: `psnr_loss` is unbounded below; total variation and
depth smoothness look at one image; the divergences compare probability maps, mutual information
whole batches of histograms; the others compare a segmentation with its labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from losses.distance import Distance, above_zero, per_image


class _KorniaRobust(Distance):
    """`mean(rho((x_hat - x) / c))` with Kornia's rho.

    Args:
        c: residuals well below it are squared, larger ones count for less than their square.
            Kornia itself fixes c at 1, where a residual in [0, 1] is close to half its square.

    Raises:
        ValueError: c is not above 0.
    """

    function: ClassVar[str]

    def __init__(self, c: float = 1.0) -> None:
        super().__init__()
        import kornia.losses

        self.c = above_zero("c", c)
        self._rho: Callable[..., Tensor] = getattr(kornia.losses, self.function)

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        return per_image(self._rho(x_hat / self.c, x / self.c, reduction="none"))


class KorniaCharbonnier(_KorniaRobust):
    """Barron's alpha = 1: rho(r) = sqrt(r^2 + 1) - 1."""

    function = "charbonnier_loss"


class KorniaCauchy(_KorniaRobust):
    """Barron's alpha = 0: rho(r) = log(r^2 / 2 + 1)."""

    function = "cauchy_loss"


class KorniaGemanMcClure(_KorniaRobust):
    """Barron's alpha = -2: rho(r) = 2 r^2 / (r^2 + 4)."""

    function = "geman_mcclure_loss"


class KorniaWelsch(_KorniaRobust):
    """Barron's alpha = -infinity: rho(r) = 1 - exp(-r^2 / 2)."""

    function = "welsch_loss"
