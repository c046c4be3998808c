"""From a config that Hydra composed to plain values.

`register` gives Hydra the types of every key; `plain` checks the values and returns nested dicts;
`compose` does both for commands other than `run.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import losses
import models
from experiments.cli.refusals import told, unknown_key
from experiments.config import guard, schema
from experiments.config.named import LOGGERS, SOURCES
from experiments.config.permitted import NAME_RULE, is_name
from experiments.errors import UserError
from experiments.machine.plugins import FROM_OUTSIDE
from experiments.metrics import validated

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
MEMORY_FORMATS = ("auto", "channels_last", "contiguous")
STRATEGIES = ("auto", "ddp")
SCHEDULES = ("plateau", "cosine", "constant")
PROFILERS = ("simple", "advanced", "pytorch")
REPORTS = ("html", "none")
FITS = ("crop", "pad", "squash")

_CONF = Path(__file__).parents[2] / "conf"
_NAMED: dict[str, Mapping[str, Any]] = {
    "data": SOURCES,
    "logger": LOGGERS,
    "model": models.NETWORKS,
}
"""Groups of the config whose choices are registered, with a file or without."""
_NOT_OF_A_TRIAL = ("experiments", "sweep", "report")

Rule = tuple[str, Callable[[Any], bool]]


def register() -> None:
    """Tell Hydra the typed schema of the config, and have each config checked that it composes."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name="schema", node=schema.Config, replace=True)
    for group, registered in _NAMED.items():
        for name in registered:
            if not (_CONF / group / f"{name}.yaml").exists():
                options = _options(name) if group == "model" else {}
                store.store(group=group, name=name, node={"name": name, **options})
    guard.install()


def _options(network: str) -> dict[str, Any]:
    try:
        return models.options(network)
    except ValueError:  # whoever uses it is told; all others do without
        return {}


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The checked plain values that `python run.py` would have with these overrides.

    Raises:
        UserError: a value is missing or out of range.
        HydraException: an override cannot be read or composed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    register()
    with initialize_config_dir(str(_CONF)):
        return plain(hydra_compose("config", list(overrides)))


def plain(config: Any) -> dict[str, Any]:
    """A composed Hydra config as nested dicts of plain values, interpolations resolved, checked.

    Raises:
        UserError: a value is missing or out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(str(told(error))) from error
    assert isinstance(values, dict)
    if values["report"] not in REPORTS:
        raise UserError(
            f"`report` must be one of {', '.join(REPORTS)}, but got {values['report']!r}"
        )
    trial = {str(key): value for key, value in values.items() if key not in _NOT_OF_A_TRIAL}
    if isinstance(trial["loss"], dict):  # a file of the user's own may not have it
        trial["loss"].setdefault("degree", losses.AUTO)
    if isinstance(trial["model"], dict):
        try:
            trial["model"] = models.complete(trial["model"])
        except ValueError as error:
            raise UserError(str(error)) from error
    validate(trial)
    return trial


def validate(config: Mapping[str, Any]) -> None:
    """Check every value that is not its loss's, model's or data source's own business.

    Raises:
        UserError: a value breaks its rule.
    """
    _refuse_unknown(config, schema.Config)
    for path, (rule, holds) in _RULES.items():
        value = _select(config, path)
        if not holds(value):
            raise UserError(f"`{path}` must be {rule}, but got {value!r}")
    for path, known in (("data.name", SOURCES), ("logger.name", LOGGERS)):
        if (value := _select(config, path)) not in tuple(known):
            raise UserError(f"`{path}` must be one of {', '.join(known)}, but got {value!r}")
    chosen = objectives(config)
    if len(set(map(str, chosen))) < len(chosen):
        raise UserError(
            f"`objective` must be a metric or a list of several, but got {chosen}; name each once"
        )
    for objective in chosen:
        if objective not in validated():
            raise UserError(
                f"`objective` must be one of {', '.join(validated())} (or a list of them), "
                f"but got {objective!r}; {FROM_OUTSIDE}"
            )
    warmup, epochs = config["kl"]["warmup_epochs"], config["max_epochs"]
    if warmup >= epochs:
        raise UserError(
            "`kl.warmup_epochs` must be below `max_epochs`, since only what was trained at the "
            f"full `beta` is selected, but got {warmup:g} of {epochs}; for a smaller weight of "
            "the KL to the end, lower `beta`"
        )
    processes = config["trainer"]["devices"] * config["trainer"]["nodes"]
    if config["batch_size"] < processes:
        raise UserError(
            "`batch_size` must be the number of processes, trainer.devices x trainer.nodes = "
            f"{processes}, or more, since they share each batch, but got {config['batch_size']}; "
            "raise it or lower trainer.devices"
        )
    if config["data"]["root"] is not None and not is_meant("data.root", config):
        raise UserError(
            f"`data.root` belongs to `data=images`, but `data` is {config['data']['name']}; "
            f"add data=images to train on {config['data']['root']}"
        )


def is_meant(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a key that the config has means something for its data source."""
    of = [name for name, one in SOURCES.items() if key.removeprefix("data.") in one.keys]
    return not key.startswith("data.") or not of or config["data"]["name"] in of


def objectives(config: Mapping[str, Any]) -> list[str]:
    """The metrics to select by, the first of which chooses the checkpoint.

    Raises:
        UserError: there is none.
    """
    value = config["objective"]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise UserError(f"`objective` must be a metric or a list of metrics, but got {value!r}")
    return names


def _select(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for key in path.split("."):
        try:
            value = value[key]
        except (KeyError, TypeError) as error:
            raise UserError(f"`{path}` is missing from the config") from error
    return value


def _refuse_unknown(config: Mapping[str, Any], typed: type, prefix: str = "") -> None:
    """A `+key=value` gets past Hydra; a misspelt one must not get past us."""
    known = {field.name: field.type for field in fields(typed)}
    for key, value in config.items():
        if key not in known:
            raise UserError(unknown_key(f"{prefix}{key}", known))
        nested = getattr(schema, str(known[key]), None)
        if is_dataclass(nested) and isinstance(value, Mapping):
            assert isinstance(nested, type)
            _refuse_unknown(value, nested, f"{prefix}{key}.")


def _number(rule: str, holds: Callable[[Any], bool]) -> Rule:
    def is_number_that_holds(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and holds(value)

    return rule, is_number_that_holds


def _integer(least: int, most: int | None = None) -> Rule:
    """With a `most` where a config could otherwise ask for any memory."""

    def holds(value: Any) -> bool:
        number = isinstance(value, int) and not isinstance(value, bool)
        return number and least <= value and (most is None or value <= most)

    limit = f", at most {most:,}" if most is not None else ""
    return f"an integer of {least} or more{limit}", holds


def _optional(rule: Rule) -> Rule:
    return f"{rule[0]}, or null", lambda value: value is None or rule[1](value)


def _one_of(choices: tuple[str, ...]) -> Rule:
    return f"one of {', '.join(choices)}", lambda value: value in choices


_NOT_NEGATIVE = _number("0 or more", lambda v: v >= 0)
_POSITIVE = _number("above 0", lambda v: v > 0)

_RULES: dict[str, Rule] = {
    "name": (NAME_RULE, is_name),
    "seed": _number("an integer in [0, 2^32)", lambda v: isinstance(v, int) and 0 <= v < 2**32),
    "lr": _POSITIVE,
    "latent_dim": _integer(1, 2**16),
    "beta": _number("0 or more, at most 1e9", lambda v: 0 <= v <= 1e9),
    "batch_size": _integer(2, 2**20),
    "max_epochs": _integer(1),
    "kl.warmup_epochs": _NOT_NEGATIVE,
    "kl.free_bits": _NOT_NEGATIVE,
    "optimizer.weight_decay": _number("0 or more, at most 1000", lambda v: 0 <= v <= 1000),
    "optimizer.schedule": _one_of(SCHEDULES),
    "optimizer.plateau_factor": _number("between 0 and 1", lambda v: 0 < v < 1),
    "optimizer.plateau_patience": _integer(0),
    "optimizer.warmup_steps": _optional(_integer(0)),
    "optimizer.gradient_clip": _optional(_POSITIVE),
    "optimizer.ema_decay": _optional(_number("between 0 and 1", lambda v: 0 < v < 1)),
    "trainer.devices": _integer(1, 1024),
    "trainer.nodes": _integer(1, 1024),
    "trainer.strategy": _one_of(STRATEGIES),
    "trainer.precision": _one_of(PRECISIONS),
    "trainer.memory_format": _one_of(MEMORY_FORMATS),
    "trainer.threads": _optional(_integer(1, 1024)),
    "trainer.early_stopping_patience": _optional(_integer(1)),
    "trainer.validate_every": _optional(_integer(1)),
    "trainer.profiler": _optional(_one_of(PROFILERS)),
    "evaluation.samples": _integer(64, 10**6),
    "data.count": _integer(1, 10**7),
    "data.fit": _one_of(FITS),
    "data.max_bad_fraction": _number("in [0, 1]", lambda v: 0 <= v <= 1),
    "data.crop": _number("above 0, at most 1", lambda v: 0 < v <= 1),
    "data.jitter": _number("in [0, 1]", lambda v: 0 <= v <= 1),
    "logger.log_images_every": _integer(1),
}
