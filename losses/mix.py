"""A weighted sum of distances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import losses
from losses import _options
from losses.distance import Distance


class Mix(Distance):
    """The sum of `weights[i] * terms[i]`, each term a distance by its name at default options.

    The defaults are the mix of Zhao et al., "Loss functions for image restoration with neural
    networks", 2017 (0.84 of MS-SSIM, 0.16 of L1), with the MS-SSIM of Wang et al. Weights need not
    sum to 1. Terms differ in range (each says its own), so equal weights are not equal influence.
    """

    name = "mix"

    def __init__(
        self, terms: Sequence[str] = ("l1", "ms_ssim"), weights: Sequence[float] = (0.16, 0.84)
    ) -> None:
        super().__init__()
        term_names = _options.strings("terms", terms)
        self.weights = _options.positives("weights", weights)
        if len(term_names) != len(self.weights):
            raise ValueError(
                f"`weights` must have one number for each of the {len(term_names)} `terms`, "
                f"but got {len(self.weights)}: {list(self.weights)}"
            )
        choices = [name for name in losses.names() if name not in ("mix", "custom")]
        self.terms = nn.ModuleList(
            losses.create(_options.choice(f"terms[{index}]", name, choices))
            for index, name in enumerate(term_names)
        )

    @property
    def min_size(self) -> int:
        return max(term.min_size for term in self._distances())

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        values = [
            weight * term(x_hat, x)
            for weight, term in zip(self.weights, self._distances(), strict=True)
        ]
        return torch.stack(values).sum(0)

    def _distances(self) -> list[Distance]:
        return [term for term in self.terms if isinstance(term, Distance)]
