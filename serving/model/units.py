"""Which latent units say something about an image."""

from __future__ import annotations

import numpy as np

from serving.model.checkpoints import Model


def informative(model: Model, most: int) -> list[int]:
    """At most `most` units, those first that cost most KL on the validation images.

    Without a record the units are as good as each other, and come in their order.
    """
    statistics = model.trained.statistics if model.trained is not None else None
    if statistics is None:
        return list(range(min(most, model.network.latent_dim)))
    return [int(unit) for unit in np.argsort(-statistics.kl, kind="stable")[:most]]
