"""What every part of the analysis reads: the trials of one or several sweeps as tidy tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from analysis.design import Design


@dataclass(frozen=True)
class Broken:
    """Something that looked like a trial but could not be read.

    Attributes:
        where: a path, a study's trial or a W&B run.
        reason: why not, in a sentence.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class Runs:
    """Trials and their histories.

    `trials` has one row a trial and the columns

    - `trial`: unique text, `<sweep>/<number>`, or `<name>/<directory>` of a single run;
    - `source`, `sweep`, `number` (missing for a single run), `phase` ("search" or "confirm");
    - `status`: completed, pruned, failed, interrupted, running or waiting; `reason`; `seed`;
    - every key of the flat config by its name, such as `loss.name`, `loss.scale`, `lr`,
      `latent_dim`, `beta`, `model.name`, `data.size`;
    - `configuration`: the same text for trials that differ in nothing but the seed;
    - `val/<metric>` of the final evaluation (of the best validation, if the trial was pruned), and
      `test/<metric>` where that split was scored;
    - `epochs`, `steps`, `seconds/total`, `seconds/fit`, `seconds/epoch`, `images_per_second`;
    - `directory` and `checkpoint` (absolute paths), `wandb` (address of the run), each missing
      where there is none.

    `history` has one row a validation: `trial`, `epoch` (from 0), `step`, `val/<metric>`.

    Attributes:
        trials: as above; empty, but with the columns that every trial has, if there are none.
        history: as above.
        broken: what could not be read.
        objectives: names of the metrics that the sweeps searched by; empty if they differ.
        searched: columns of `trials` that the sweeps searched over, without the seed.
        designs: how sweeps compare, by name, where they say so.
    """

    trials: pd.DataFrame
    history: pd.DataFrame
    broken: list[Broken] = field(default_factory=list)
    objectives: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    designs: Mapping[str, Design] = field(default_factory=dict)
