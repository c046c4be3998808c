"""What a config file may decide, checked whenever Hydra has composed a config.

A config, a preset or a sweep file may come from somebody else. It may decide what is trained and
how; it may not run code, write elsewhere, read the environment or ask for more than the machine
has. What is typed on the command line is the user's word and is not checked, but for what could
not do what it says. See docs/security.md.
"""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.permitted import (
    NAME_RULE,
    READS,
    Leaves,
    check_callbacks,
    check_launcher,
    check_logging,
    check_places,
    check_readable,
    check_variables,
    is_name,
    refused,
)
from experiments.config.schema import DataConfig
from experiments.errors import UserError
from experiments.record import flat
from losses.trust import how_to_trust, is_trusted_path

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

OUTPUTS = "outputs"
"""The directory, in the working directory, below which a config file may have things written."""

_RENTS = ".RayAWSLauncher"
_MOST_WORKERS = 256
_CACHE_VARIABLE = "VAESWEEP_CACHE"
_TEXTS = ("hydra.help.", "hydra.hydra_help.", "hydra.run.", "hydra.sweep.")
_OURS_TO_SAY = ("hydra", "data.cache_dir")
"""Keys that a search space in a file may not hold, at all or below."""

_may_be_read: set[str] = set()  # names that the user typed in ${oc.env:NAME}


def install() -> None:
    """Have every config checked that Hydra composes in this process: also those of workers.

    Hydra configures its logging, which opens files, right after it has composed a config, and
    has no hook between the two. So this wraps the one function through which it composes.
    """
    import yaml
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    compose = ConfigLoaderImpl._load_configuration
    if hasattr(compose, "is_checked"):
        return
    signature = inspect.signature(compose)

    @wraps(compose)
    def checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        given = signature.bind(self, *args, **kwargs).arguments
        name, parsed = given["config_name"], given.get("parsed_overrides")
        words = _Words(parsed or self.parse_overrides(name, given["overrides"]))
        _check_search_path(self, name, words)
        _may_be_read.update(words.variables())
        try:
            config: DictConfig = compose(self, *args, **kwargs)
        except KeyError as error:  # of Hydra, which copies without asking
            raise _not_copied(error) from error
        except yaml.YAMLError as error:  # without what was read, which may be without end
            raise UserError(f"a config file must be YAML that can be read, but {error}") from None
        _check(config, words)
        return config

    checked.is_checked = True  # type: ignore[attr-defined]
    ConfigLoaderImpl._load_configuration = checked
    _guard_the_environment()


def check_directories(config: DictConfig) -> None:
    """Refuse directories outside `outputs/` that nobody typed.

    Args:
        config: composed, with its `hydra` node; of a trial of a sweep with the trial's number.

    Raises:
        UserError: there is one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    # As typed: resolved, ${hydra.job.override_dirname} is no override.
    typed: Any = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    said = [*typed["hydra"], *typed["task"]]
    words = _Words(OverridesParser.create().parse_overrides(said))
    _check_directories(config, words)
    _check_cache(config, words)


def check_searched(overrides: Iterable[str], source: str) -> None:
    """Refuse what a file may not have searched.

    Args:
        overrides: that the file makes; with several values too.
        source: of the overrides, for the message.

    Raises:
        UserError: there is such a key.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in overrides:
        words = _Words(OverridesParser.create().parse_overrides([text]))
        for key in words.keys:
            if any(
                key == ours or key.startswith((f"{ours}.", f"{ours}/")) for ours in _OURS_TO_SAY
            ):
                raise UserError(
                    f"{source} may search what a trial is, but not `{key}`, and got {text!r}; "
                    "leave it out, and type it if you mean it"
                )
        check_readable(words.variables(), text)


def _not_copied(error: KeyError) -> Exception:
    name = error.args[0]
    if not isinstance(name, str) or name in os.environ or not name.isidentifier():
        return error
    return UserError(
        f"`hydra.job.env_copy` must name variables that are set, but {name} is not; "
        "leave it out, or set it before the command"
    )


class _Words:
    """What the user typed: the overrides of a command line.

    Attributes:
        keys: dotted, down to the single values.
    """

    def __init__(self, overrides: Sequence[Override]) -> None:
        self._overrides = overrides
        # What extends a list says nothing of what a file has put there.
        told = (o for o in overrides if not o.is_list_extend())
        self.keys = frozenset(key for o in told for key in _keys(o))
        self.count = len(overrides)

    def say(self, key: str) -> bool:
        """Whether the value of a key was typed; a group's choice (`data=images`) is none."""
        return key in self.keys

    def variables(self) -> set[str]:
        """Names in `${oc.env:NAME}`."""
        return {name for o in self._overrides for name in READS.findall(o.input_line or "")}


def _keys(override: Override) -> Iterator[str]:
    from omegaconf._utils import split_key

    group = override.key_or_group
    name = group if "/" in group else ".".join(split_key(group))
    value = override.value()
    choices = getattr(value, "list", None)  # of several values
    for one in choices if isinstance(choices, list) else [value]:
        if isinstance(one, dict) and one:
            yield from flat(one, f"{name}.")
        else:
            yield name


def _check_search_path(loader: Any, name: str | None, words: _Words) -> None:
    """Hydra imports packages of the search path while it composes, so this comes first."""
    if name is None or words.say("hydra.searchpath"):
        return
    from omegaconf import OmegaConf

    primary = loader.repository.load_config(name)
    named = primary and OmegaConf.select(primary.config, "hydra.searchpath")
    if named:
        raise refused("hydra.searchpath", "be typed", list(named))


def _check(config: DictConfig, words: _Words) -> None:
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(config.hydra, resolve=False)
    said = content["overrides"]
    if len(said["hydra"]) + len(said["task"]) != words.count:
        raise UserError(
            "`hydra.overrides` must hold what was typed, but a config file adds to it; "
            "leave it out of the file"
        )
    leaves = {f"hydra.{key}": value for key, value in flat(content).items()}
    filed = {key: value for key, value in leaves.items() if not words.say(key)}
    _check_written_out(config, filed)
    check_variables(leaves, filed, content["job"]["env_copy"])
    check_places(filed)
    check_logging(filed)
    check_callbacks(content["callbacks"])
    target = str((content["launcher"] or {}).get("_target_"))
    if target.endswith(_RENTS) and "hydra/launcher" not in words.keys:
        raise refused("hydra/launcher", "be typed where it rents machines", target, show=False)
    check_launcher(flat(_usual_launcher(target)), filed)
    _check_sweeper(config, filed, words)
    _check_directories(config, words)
    _check_cache(config, words)


def _check_written_out(config: DictConfig, filed: Leaves) -> None:
    """Refuse whole nodes that are taken from elsewhere, where nobody would look at them."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key, value in filed.items():
        if not isinstance(value, str) or "${" not in value or key.startswith(_TEXTS):
            continue
        try:
            found = OmegaConf.select(config, key)
        except OmegaConfBaseException:
            continue  # it is no node: those are there already
        if OmegaConf.is_config(found):
            raise refused(key, "be written out", value)


def _usual_launcher(target: Any) -> dict[str, Any]:
    """The settings that the launcher's plugin comes with."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for node in stored.values():
        usual: Any = OmegaConf.to_container(OmegaConf.create(node.node), resolve=False)
        if usual.get("_target_") == target:
            return usual  # type: ignore[no-any-return]
    return {}


def _check_sweeper(config: DictConfig, filed: Leaves, words: _Words) -> None:
    from omegaconf import OmegaConf

    sweeper: Any = config.hydra.sweeper or {}
    workers = sweeper.get("n_jobs")
    if "hydra.sweeper.n_jobs" in filed and isinstance(workers, int) and workers > _MOST_WORKERS:
        raise refused("hydra.sweeper.n_jobs", f"be at most {_MOST_WORKERS}", workers)
    storage = {k: v for k, v in filed.items() if f"{k}.".startswith("hydra.sweeper.storage.")}
    if any(value is not None for value in storage.values()):
        raise refused("hydra.sweeper.storage", "be typed", "a storage of its own", show=False)
    if OmegaConf.is_dict(sweeper.get("params")):
        params: Any = OmegaConf.to_container(sweeper.params, resolve=True)
        said = {k: v for k, v in params.items() if not words.say(f"hydra.sweeper.params.{k}")}
        texts = (f"{k}={v if isinstance(v, str) else _literal(v)}" for k, v in said.items())
        check_searched(texts, "`hydra.sweeper.params` of a config file")


def _literal(value: Any) -> str:
    from hydra.core.override_parser.types import Override

    return str(Override._get_value_element_as_str(value))


def _check_directories(config: DictConfig, words: _Words) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import setup_globals

    setup_globals()  # a worker's process knows no ${now:...} before its first job
    copied = config.copy()
    name = _resolved(copied, "name") if "name" in copied else "vae"
    if not is_name(name):  # directories are named after it
        raise UserError(f"`name` must be {NAME_RULE}, but got {name!r}")
    before = HydraConfig.instance().cfg
    _number(copied)
    try:
        HydraConfig.instance().set_config(copied)
        for key in ("hydra.run.dir", "hydra.sweep.dir"):
            _refuse_home(key, _resolved(copied, key))
        if not words.say("hydra.run.dir"):
            _check_directory("hydra.run.dir", [_resolved(copied, "hydra.run.dir")])
        parts = ["hydra.sweep.dir", "hydra.sweep.subdir"]
        if not all(map(words.say, parts)):
            said = [_resolved(copied, key) for key in parts]
            if words.say("hydra.sweep.dir"):  # then only the rest must keep to it
                said = [OUTPUTS, said[1]]
                parts = parts[1:]
            _check_directory(parts[0], said)
    finally:
        HydraConfig.instance().cfg = before


def _refuse_home(key: str, directory: str) -> None:
    if directory.startswith("~"):
        raise UserError(
            f"`{key}` must be a whole path, since only a shell expands ~, but got {directory!r}; "
            f"type {os.path.expanduser(directory)}"
        )


def _number(config: DictConfig) -> None:
    """Give a config that is of no trial yet the number of one."""
    from omegaconf import OmegaConf, open_dict, read_write

    with read_write(config.hydra), open_dict(config.hydra):
        for key, value in (("num", 0), ("id", "0")):
            if OmegaConf.is_missing(config.hydra.job, key):
                config.hydra.job[key] = value


def _resolved(config: DictConfig, key: str) -> str:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return str(OmegaConf.select(config, key, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise UserError(
            f"`{key}` of a config file must name a directory that is known before the run, but "
            f"{' '.join(str(error).split())}"
        ) from error


def _check_directory(key: str, parts: Sequence[str]) -> None:
    path = os.path.join(*(os.path.expanduser(part) for part in parts))
    root = os.path.abspath(OUTPUTS)
    inside = os.path.abspath(path).startswith(root + os.sep) and ".." not in Path(path).parts
    if not inside and not is_trusted_path(path):
        raise UserError(
            f"`{key}` of a config file must be below {OUTPUTS}/ in the working directory, but got "
            f"{path}; if you mean it, type it, or {how_to_trust('DIRECTORY')}"
        )


def _check_cache(config: DictConfig, words: _Words) -> None:
    if words.say("data.cache_dir") or "data" not in config:
        return
    given = _resolved(config, "data.cache_dir")
    usual = (os.environ.get(_CACHE_VARIABLE), DataConfig.cache_dir)
    if given not in usual and not is_trusted_path(given):
        raise UserError(
            f"`data.cache_dir` of a config file must be left out, but got {given}; if you mean "
            f"it, type it, or put it before the command: {_CACHE_VARIABLE}={shlex.quote(given)}"
        )


def _guard_the_environment() -> None:
    """`${oc.env:NAME}` gives what the user typed, and names and places, but no secrets."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    read: Callable[..., Any] = oc.env

    @wraps(read)
    def guarded(key: str, *default: Any) -> Any:
        if key not in _may_be_read:
            check_readable([str(key)], f"${{oc.env:{key}}}")
        return read(key, *default)

    OmegaConf.register_resolver("oc.env", guarded, replace=True, annotation_validation="off")
