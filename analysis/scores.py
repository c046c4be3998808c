"""Scores of each held-out image under every metric and every loss's distance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.runs import Broken, Runs
from experiments.errors import UserError

DISTANCE = "distance/"
"""Before a loss's name: the metric that this loss minimises, unscaled."""


@dataclass(frozen=True)
class Scores:
    """What trained models make of the same held-out images.

    Attributes:
        split: "val" or "test".
        values: for each trial, by its name in `Runs.trials`, each metric of each image, (N,), in
            the order of the split: those of `experiments.metrics.RECONSTRUCTION`;
            `distance/<loss>` for every loss that takes such images, with its default options;
            `distance/own`, the trial's own loss with its own options; and `kl`, nats, of the
            posterior from the prior, whatever `beta`. Reconstructions are without posterior noise.
        split_level: a row a trial, with `kl` (nats, the mean over the images), `active_units`,
            `laplacian_swd` and `sliced_wasserstein`.
        images: for each trial the fingerprint of its images and of what is in the split. Scores
            are paired, image by image, between trials of the same fingerprint only.
        missing: completed trials that could not be scored, with the reason.
    """

    split: str
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]
    split_level: pd.DataFrame
    images: Mapping[str, str] = field(default_factory=dict)
    missing: list[Broken] = field(default_factory=list)

    def groups(self) -> list[list[str]]:
        """The trials that saw the same held-out images, largest group first."""
        by_images: dict[str, list[str]] = {}
        for trial in self.values:
            by_images.setdefault(self.images[trial], []).append(trial)
        return sorted(by_images.values(), key=len, reverse=True)

    def on_common_images(self, trials: Iterable[str]) -> frozenset[str]:
        """Those of the trials that were scored on the images that most of them were."""
        wanted = set(trials)
        return frozenset(max((wanted & {*group} for group in self.groups()), key=len, default=()))

    def mean(self, trial: str, metric: str) -> float:
        """Of a trial that was scored, over the images; NaN where it lacks the metric."""
        if metric in self.values[trial]:
            return float(np.mean(self.values[trial][metric]))
        if metric in self.split_level.columns:
            return float(self.split_level.loc[trial, metric])
        return float("nan")


def score(runs: Runs, trials: Iterable[str] | None = None, split: str = "test") -> Scores:
    """Score trained models on their held-out images, in one pass over these for everything.

    Scores are kept beside each record in `scores-<split>.npz`, as long as its checkpoint stays
    the same; beside a record that is read-only they are not.

    Args:
        runs: as loaded.
        trials: their names; None for those that were completed.
        split: "val" or "test".

    Raises:
        UserError: there is no trial of such a name.
        ValueError: there is no such split.
    """
    from analysis.models import SPLITS
    from analysis.scoring import Scored, scored

    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, but got {split!r}")
    found: dict[str, Scored] = {}
    missing: list[Broken] = []
    for row in _chosen(runs, trials):
        try:
            found[row["trial"]] = scored(row, split)
        except UserError as error:
            missing.append(Broken(row["trial"], str(error)))
    return Scores(
        split=split,
        values={trial: one.values for trial, one in found.items()},
        split_level=pd.DataFrame(
            [one.split_level for one in found.values()],
            index=pd.Index(found, name="trial", dtype=object),
            columns=["kl", "active_units", "laplacian_swd", "sliced_wasserstein"],
            dtype=np.float64,
        ),
        images={trial: one.images for trial, one in found.items()},
        missing=missing,
    )


def with_scores(runs: Runs, scores: Scores) -> Runs:
    """The runs with a column `<split>/<metric>` for each metric that was scored.

    A metric of each image is averaged over the images. What a trial's own evaluation has said
    already stays.
    """
    means = pd.DataFrame(
        {trial: {m: v.mean() for m, v in values.items()} for trial, values in scores.values.items()}
    ).T
    means = means.reindex(scores.split_level.index)
    both = pd.concat([means.drop(columns=["kl"], errors="ignore"), scores.split_level], axis=1)
    new = both.add_prefix(f"{scores.split}/").reindex(runs.trials["trial"])
    new.index = runs.trials.index
    kept = [column for column in new if column in runs.trials]
    filled = {column: runs.trials[column].fillna(new[column]) for column in kept}
    table = pd.concat([runs.trials.assign(**filled), new.drop(columns=kept)], axis=1)
    return replace(runs, trials=table)


def _chosen(runs: Runs, trials: Iterable[str] | None) -> list[dict[str, Any]]:
    table = runs.trials
    if trials is None:
        return table[table["status"] == "completed"].to_dict("records")  # type: ignore[no-any-return]
    names = list(trials)
    unknown = set(names) - set(table["trial"])
    if unknown:
        raise UserError(f"a trial must be one of the runs, but got {', '.join(sorted(unknown))}")
    return table.set_index("trial", drop=False).loc[names].to_dict("records")  # type: ignore[no-any-return]
