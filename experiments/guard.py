"""What a config file may decide, checked whenever Hydra has composed a config.

A config, a preset or a sweep file may come from somebody else. It may decide what is trained and
how; it may not run code, write elsewhere, read the environment or ask for more than the machine
has. What is typed on the command line is the user's word and is not checked, but for what could
not do what it says. See docs/security.md.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.record import flat
from experiments.schema import DataConfig
from losses.trust import VARIABLE, how_to_trust, is_trusted_path, trusted_packages

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

OUTPUTS = "outputs"
"""The directory, in the working directory, below which a config file may have things written."""

CALLBACKS = ("hydra.experimental.callbacks.PickleJobInfoCallback",)
"""Hydra's own callbacks that need no word of the user."""

_MOST_WORKERS = 256
_CACHE_VARIABLE = "VAESWEEP_CACHE"
_PLAIN_VARIABLES = re.compile(
    r"(OMP|MKL|OPENBLAS|NUMEXPR|VECLIB)_(NUM|MAX)_THREADS|OMP_(PROC_BIND|PLACES|WAIT_POLICY)"
    r"|(CUDA|HIP|ROCR)_VISIBLE_DEVICES|CUDA_(DEVICE_ORDER|LAUNCH_BLOCKING)|TZ|NO_COLOR|COLUMNS"
    r"|TOKENIZERS_PARALLELISM|CUBLAS_WORKSPACE_CONFIG"
)
"""Variables that a config file may set: they hold numbers and change speed at most."""
_TOO_LATE = re.compile(
    r"VAESWEEP_\w*|HYDRA_\w*|PYTHON\w*|LD_\w*|DYLD_\w*|PATH|BASH_ENV|ENV|IFS|SHELLOPTS|GCONV_PATH"
    r"|.*_PRELOAD|GLIBC_TUNABLES|MALLOC_\w*|VIRTUAL_ENV|CONDA_\w*"
)
"""Variables that are read when a process starts: set by a config they would come too late."""
_READABLE = re.compile(
    r"VAESWEEP_CACHE|USER|LOGNAME|USERNAME|HOME|PWD|HOST|HOSTNAME|TMPDIR"
    r"|SLURM_(JOB|ARRAY)\w*|\w*_(DIR|ROOT|HOME|FOLDER|PATH)"
)
"""Variables that a config file may read: names and places, no secrets."""
_READS = re.compile(r"(?:oc\.env|envvar):\s*([A-Za-z_]\w*)")
_LOGGING_CODE = ("()", "class", "queue", "listener")
_LOGGERS = (
    "logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter",
    "colorlog.ColoredFormatter",
)  # fmt: skip
_EXTERNAL = re.compile(r"\s*(ext|cfg)://")
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOG_FILE = re.compile(r"\$\{hydra\.runtime\.output_dir\}/([\w-]+|\$\{hydra\.job\.name\})\.log")
_LAUNCHER_TEXTS = {
    "partition", "qos", "account", "constraint", "gres", "exclude", "name",
    "mem_per_gpu", "mem_per_cpu", "gpus_per_task",
}  # fmt: skip
_LAUNCHER_NUMBERS = {
    f"ray.{part}.{key}"
    for part in ("init", "remote")
    for key in ("num_cpus", "num_gpus", "memory", "object_store_memory")
}
_ONE_WORD = re.compile(r"[\w.:,=@+&|*()\[\]-]*")
_OURS_TO_SAY = ("hydra", "data.cache_dir")
"""Keys that a search space in a file may not hold, at all or below."""

Leaves = Mapping[str, Any]

_may_be_read: set[str] = set()  # names that the user typed in ${oc.env:NAME}


def install() -> None:
    """Have every config checked that Hydra composes in this process: also those of workers.

    Hydra configures its logging, which opens files, right after it has composed a config, and
    has no hook between the two. So this wraps the one function through which it composes.
    """
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
        config = compose(self, *args, **kwargs)
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

    said = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
    _check_directories(config, _Words(OverridesParser.create().parse_overrides(said)))


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


def check_readable(names: Iterable[str], text: str) -> None:
    """Refuse to read variables of the environment that may be secrets.

    Raises:
        UserError: a file names one.
    """
    for name in names:
        if not _READABLE.fullmatch(name):
            raise UserError(
                f"a file may read variables that name places, users and machines, but {text!r} "
                f"reads {name}, which may be a secret; leave it out, or type the value"
            )


class _Words:
    """What the user typed: the overrides of a command line.

    Attributes:
        keys: dotted, down to the single values.
    """

    def __init__(self, overrides: Sequence[Override]) -> None:
        self._overrides = overrides
        self.keys = frozenset(key for o in overrides for key in _keys(o))
        self.count = len(overrides)

    def say(self, key: str) -> bool:
        """Whether a key, or all that is below one above it, was typed."""
        parts = key.split(".")
        return any(".".join(parts[: i + 1]) in self.keys for i in range(len(parts)))

    def variables(self) -> set[str]:
        """Names in `${oc.env:NAME}`."""
        return {name for o in self._overrides for name in _READS.findall(o.input_line or "")}


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
        raise _refused("hydra.searchpath", "be typed", list(named))


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
    _check_variables(leaves, filed, content["job"]["env_copy"])
    _check_places(filed)
    _check_logging(filed)
    _check_callbacks(content["callbacks"])
    _check_launcher(content["launcher"], filed)
    _check_sweeper(content["sweeper"], filed, words)
    _check_directories(config, words)
    _check_cache(config, words)


def _check_variables(leaves: Leaves, filed: Leaves, copied: Sequence[str]) -> None:
    prefix = "hydra.job.env_set."
    for key, value in leaves.items():
        name = key.removeprefix(prefix)
        if name != key and _TOO_LATE.fullmatch(name.upper()):
            shown = "hydra.job.env_copy" if name in copied else repr(value)
            raise UserError(
                f"`{key}` must not be set by a config, which is read after {name} is, but got "
                f"{shown}; put it before the command: {name}=... python run.py"
            )
        if name in copied or key not in filed:
            continue
        if name != key and not _PLAIN_VARIABLES.fullmatch(name):
            raise _refused(key, "be typed or put before the command", value)
    for name in copied if "hydra.job.env_copy" in filed else ():
        if not _PLAIN_VARIABLES.fullmatch(name):
            raise _refused("hydra.job.env_copy", "be typed", list(copied))


def _check_places(filed: Leaves) -> None:
    """Names from which paths are made."""
    name, folder = filed.get("hydra.job.name", "run"), filed.get("hydra.output_subdir", ".hydra")
    if not re.fullmatch(r"[\w-][\w.-]*", str(name)):
        raise _refused("hydra.job.name", "be a file name", name)
    if folder not in (None, ".hydra"):
        raise _refused("hydra.output_subdir", "be .hydra or null", folder)


def _check_logging(filed: Leaves) -> None:
    for key, value in filed.items():
        if not key.startswith(("hydra.hydra_logging.", "hydra.job_logging.")):
            continue
        name = key.rpartition(".")[2]
        if name in _LOGGING_CODE and value not in _LOGGERS and not _is_trusted(value):
            raise UserError(
                f"`{key}` must be one of {', '.join(_LOGGERS)}, but got {value!r}; "
                f"{_if_trusted(value)}"
            )
        if _EXTERNAL.match(str(value)) and value not in _STREAMS:
            raise _refused(key, f"be one of {', '.join(_STREAMS)}", value)
        if name == "filename" and not _LOG_FILE.fullmatch(str(value)):
            raise _refused(key, "be ${hydra.runtime.output_dir}/NAME.log", value)


def _check_callbacks(callbacks: Mapping[str, Any] | None) -> None:
    for key, target in _targets(callbacks or {}, "hydra.callbacks"):
        if target not in CALLBACKS and not _is_trusted(target):
            raise UserError(
                f"`{key}` must name code that you trust, but got {target!r}; {_if_trusted(target)}"
            )


def _check_launcher(launcher: Mapping[str, Any] | None, filed: Leaves) -> None:
    """Numbers may be said; texts only where they are names, since some are run by a shell."""
    usual = flat(_usual_launcher((launcher or {}).get("_target_")))
    for full_key, value in filed.items():
        key = full_key.removeprefix("hydra.launcher.")
        if key in (full_key, "_target_") or (key in usual and usual[key] == value):
            continue
        is_number = value is None or isinstance(value, bool | int | float)
        if is_number and (key in usual or key in _LAUNCHER_NUMBERS):
            continue
        if key in _LAUNCHER_TEXTS and _ONE_WORD.fullmatch(str(value)):
            continue
        if value in ({}, []):
            continue
        raise _refused(full_key, "be typed, since launchers run what it says", value)


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


def _check_sweeper(sweeper: Mapping[str, Any] | None, filed: Leaves, words: _Words) -> None:
    sweeper = sweeper or {}
    workers = sweeper.get("n_jobs")
    if "hydra.sweeper.n_jobs" in filed and isinstance(workers, int) and workers > _MOST_WORKERS:
        raise _refused("hydra.sweeper.n_jobs", f"be at most {_MOST_WORKERS}", workers)
    storage = {k: v for k, v in filed.items() if f"{k}.".startswith("hydra.sweeper.storage.")}
    if any(value is not None for value in storage.values()):
        raise _refused("hydra.sweeper.storage", "be typed", "a storage of its own", show=False)
    params = sweeper.get("params")
    if isinstance(params, Mapping):
        said = {k: v for k, v in params.items() if not words.say(f"hydra.sweeper.params.{k}")}
        texts = (f"{k}={v if isinstance(v, str) else _literal(v)}" for k, v in said.items())
        check_searched(texts, "`hydra.sweeper.params` of a config file")


def _literal(value: Any) -> str:
    from hydra.core.override_parser.types import Override

    return str(Override._get_value_element_as_str(value))


def _check_directories(config: DictConfig, words: _Words) -> None:
    from hydra.core.hydra_config import HydraConfig

    copied = config.copy()
    before = HydraConfig.instance().cfg
    _number(copied)
    try:
        HydraConfig.instance().set_config(copied)
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
            f"{path}; if you mean it, type it, or trust the directory: {how_to_trust('DIRECTORY')}"
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


def _targets(content: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every `_target_` at or below a key."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if name == "_target_":
                yield f"{key}._target_", str(value)
            yield from _targets(value, f"{key}.{name}")
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from _targets(value, f"{key}.{i}")


def _is_trusted(target: Any) -> bool:
    return str(target).partition(".")[0] in trusted_packages()


def _if_trusted(target: Any) -> str:
    package = str(target).partition(".")[0]
    if not package.isidentifier():
        return f"see {VARIABLE}"
    return f"if you trust the package {package!r}: {how_to_trust(package)} python run.py"


def _refused(key: str, rule: str, value: Any, *, show: bool = True) -> UserError:
    typed = shlex.quote(f"{key}={value}") if isinstance(value, str | int | float) and show else ""
    return UserError(
        f"`{key}` must {rule}, but a config file says {value!r}; if you mean it, type it"
        + (f": {typed}" if typed else "")
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
