"""Which of a sweep's trials is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decisions import mean_places


@dataclass(frozen=True)
class Candidate:
    """A completed trial.

    Attributes:
        directory: of its record.
        configuration: the same for trials that differ in nothing but the seed.
        objectives: name and direction ("maximize" or "minimize") of each.
        values: of the objectives.
        recommended: by the answer of its sweep, by its first objective; None if that has none.
        loss: that it was trained with.
    """

    directory: str
    configuration: str
    objectives: tuple[tuple[str, str], ...]
    values: tuple[float, ...]
    recommended: bool | None = None
    loss: str = ""

    def __str__(self) -> str:
        """For people: `outputs/cats/3 (loss=mse, psnr 19.42)`."""
        pairs = zip(self.objectives, self.values, strict=True)
        said = [f"loss={self.loss}"] * bool(self.loss)
        said += [f"{name} {value:.4g}" for (name, _), value in pairs]
        return f"{self.directory} ({', '.join(said)})"


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The best trial of the best configuration.

    That is the one that the sweep's answer recommends. Without an answer configurations are
    compared by their means over seeds; those with several seeds stand above those with one: the
    best of many single runs is partly luck.

    Args:
        candidates: at least one, all with the same objectives.
    """
    if any(one.recommended for one in candidates):
        candidates = [one for one in candidates if one.recommended is not False]
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.configuration, []).append(candidate)
    repeated = [group for group in groups.values() if len(group) > 1]
    chosen = repeated or list(groups.values())
    means = np.array([np.mean([_losses(c) for c in group], axis=0) for group in chosen])
    group = chosen[int(mean_places(means).argmin())]
    return group[int(mean_places(np.array([_losses(c) for c in group])).argmin())]


def _losses(candidate: Candidate) -> list[float]:
    """The values with their signs such that lower is better."""
    pairs = zip(candidate.objectives, candidate.values, strict=True)
    return [-value if way == "maximize" else value for (_, way), value in pairs]
