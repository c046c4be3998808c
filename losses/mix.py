"""A weighted sum of distances."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

import losses
from losses.distance import Distance, above_zero


class Mix(Distance):
    """`sum(weight * distance)` over named distances, each with its default options.

    The default is L1 with MS-SSIM at 0.84, the proportion of Zhao et al. 2017.

    Args:
        terms: names of distances.
        weights: as many numbers above 0.

    Raises:
        ValueError: a name is unknown, or the lists do not match.
    """

    def __init__(
        self,
        terms: Sequence[str] = ("l1", "ms_ssim"),
        weights: Sequence[float] = (0.16, 0.84),
    ) -> None:
        super().__init__()
        if not terms or len(terms) != len(weights):
            raise ValueError(
                "`loss.terms` and `loss.weights` must be lists of one length, at least 1, "
                f"but got {list(terms)} and {list(weights)}"
            )
        for term in terms:
            if term in ("mix", "custom"):
                raise ValueError(f"`loss.terms` takes named distances, but got {term!r}")
        self.weights = [above_zero("weights", weight) for weight in weights]
        self.terms = nn.ModuleList(losses.create(term) for term in terms)
        self.smallest_side = max(_distance(term).smallest_side for term in self.terms)
        degrees = {_distance(term).degree for term in self.terms}
        self.degree = degrees.pop() if len(degrees) == 1 else None

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        weighted = zip(self.weights, self.terms, strict=True)
        return sum(
            (weight * _distance(term).distance(x_hat, x) for weight, term in weighted),
            start=x.new_zeros(len(x)),
        )


def _distance(module: nn.Module) -> Distance:
    assert isinstance(module, Distance)
    return module
