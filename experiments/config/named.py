"""What `data=` and `logger=` may name, and the code behind each, which loads when it is used.

An addition is an entry here. A file in `conf/data/` or `conf/logger/` may comment on its keys,
which are fields of `experiments.config.schema`; a source within the project may add some there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from experiments.config.schema import DataConfig
from models.registry import Registry


@dataclass(frozen=True)
class DataSource:
    """Where images come from.

    Attributes:
        load: `module:function`, which gives an `experiments.data.ImageSet`. It takes `size`,
            `channels`, `cache_dir`, `progress` and the keys, by keyword.
        keys: of `data` that mean something to this source, but not to every one.

    Raises:
        ValueError: a key is none of `data`.
    """

    load: str
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = [field.name for field in fields(DataConfig)]
        for key in self.keys:
            if key not in known:
                raise ValueError(
                    f"the keys of a data source must be a tuple of some of {', '.join(known)}, but "
                    f"{self.load} has {key!r}; it may read what else it needs from the path in "
                    "`root` or from a variable of the environment"
                )


SOURCES = Registry(
    "data source",
    {
        "cats": DataSource("experiments.data.loading:load_cats", ("count", "generator_seed")),
        "images": DataSource(
            "experiments.data.loading:load_images", ("root", "fit", "max_bad_fraction")
        ),
    },
)

LOGGERS: Registry[str | None] = Registry(
    "logger",
    {
        "wandb": "experiments.tracking.loggers:open_wandb",
        "tensorboard": "experiments.tracking.tensorboard_logger:open_tensorboard",
        "csv": "experiments.tracking.csv_logger:open_csv",
        "none": None,
    },
)
"""A `module:function` that takes the config and the record of a trial, and is a context with one of
Lightning's loggers (see `experiments.tracking.loggers`); what it writes is in the record, in a
folder of the logger's name."""
