"""What `data=` and `logger=` may name, and the code behind each, which loads when it is used.

An addition is an entry here. A file in `conf/data/` or `conf/logger/` may comment on its keys; one
of the source's own is a field of `experiments.config.schema.DataConfig` as well.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSource:
    """Where images come from.

    Attributes:
        load: `module:function`, which gives an `experiments.data.ImageSet`. It takes `size`,
            `channels`, `cache_dir`, `progress` and the keys, by keyword.
        keys: of `data` that mean something to this source, but not to every one.
    """

    load: str
    keys: tuple[str, ...] = ()


SOURCES = {
    "cats": DataSource("experiments.data.loading:load_cats", ("count", "generator_seed")),
    "images": DataSource(
        "experiments.data.loading:load_images", ("root", "fit", "max_bad_fraction")
    ),
}

LOGGERS: dict[str, str | None] = {
    "wandb": "experiments.tracking.loggers:open_wandb",
    "tensorboard": "experiments.tracking.tensorboard_logger:open_tensorboard",
    "csv": "experiments.tracking.csv_logger:open_csv",
    "none": None,
}
"""A `module:function` that takes the config and the record of a trial, and is a context with one of
Lightning's loggers (see `experiments.tracking.loggers`); what it writes is in the record, in a
folder of the logger's name."""
