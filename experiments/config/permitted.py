"""What a config file may say, key by key; `experiments.config.guard` says when that is asked.

Lists of what may be said, not of what may not: what nobody has thought of is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.errors import UserError
from losses.trust import VARIABLE, how_to_trust, trusted_packages

CALLBACKS = ("hydra.experimental.callbacks.PickleJobInfoCallback",)
"""Hydra's own callbacks that need no word of the user."""


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
READS = re.compile(r"(?:oc\.env|envvar):\s*([A-Za-z_]\w*)")
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
_MISSING = "???"  # OmegaConf's mark of what Hydra fills in
_ONE_WORD = re.compile(r"[\w.:,=@+&|*()\[\]-]*")
Leaves = Mapping[str, Any]
"""Values by their dotted keys."""


NAME_RULE = "a file name without slashes, at most 100 characters"


def is_name(value: Any) -> bool:
    """Whether a value keeps `NAME_RULE`."""
    forbidden = set('/\\:*?"<>|\0\n')
    return (
        isinstance(value, str)
        and 0 < len(value) <= 100
        and not set(value) & forbidden
        and (not value.startswith("."))
    )


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


def check_variables(leaves: Leaves, filed: Leaves, copied: Sequence[str]) -> None:
    """Refuse variables that change what code runs or where results go.

    Args:
        leaves: all of `hydra`.
        filed: what files say of it.
        copied: names in `hydra.job.env_copy`.

    Raises:
        UserError: there is one.
    """
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
            raise refused(key, "be typed or put before the command", value)
    for name in copied if "hydra.job.env_copy" in filed else ():
        if not _PLAIN_VARIABLES.fullmatch(name):
            raise refused("hydra.job.env_copy", "be typed", list(copied))


def check_places(filed: Leaves) -> None:
    """Refuse names that make paths lead elsewhere."""
    name, folder = filed.get("hydra.job.name", "run"), filed.get("hydra.output_subdir", ".hydra")
    if not re.fullmatch(r"[\w-][\w.-]*", str(name)):
        raise refused("hydra.job.name", "be a file name", name)
    if folder not in (None, ".hydra"):
        raise refused("hydra.output_subdir", "be .hydra or null", folder)
    output = "hydra.runtime.output_dir"
    if filed.get(output, _MISSING) != _MISSING:
        raise refused(output, "be left to Hydra", filed[output])


def check_logging(filed: Leaves) -> None:
    """Refuse log handlers that run code, send, or write elsewhere.

    Args:
        filed: what files say.

    Raises:
        UserError: there is one.
    """
    for key, value in filed.items():
        if not key.startswith(("hydra.hydra_logging.", "hydra.job_logging.")):
            continue
        name = key.rpartition(".")[2]
        if ".." in key:  # which sets any attribute of what logging makes
            raise UserError(f"`{key}` must be left out, since it changes what logging has made")
        if name in _LOGGING_CODE and value not in _LOGGERS and not _is_trusted(value):
            raise UserError(
                f"`{key}` must be one of {', '.join(_LOGGERS)}, but got {value!r}; "
                f"{_if_trusted(value)}"
            )
        if _EXTERNAL.match(str(value)) and value not in _STREAMS:
            raise refused(key, f"be one of {', '.join(_STREAMS)}", value)
        if name == "filename" and not _LOG_FILE.fullmatch(str(value)):
            raise refused(key, "be ${hydra.runtime.output_dir}/NAME.log", value)
        if name != "filename" and "${" in str(value):  # which may bring any of the above
            raise refused(key, "be written out, without an interpolation", value)
        if name == "filename" and key.startswith("hydra.hydra_logging."):
            raise refused(key, "be left out, as the run has no directory yet", value)


def check_callbacks(callbacks: Mapping[str, Any] | None) -> None:
    """Refuse callbacks of packages that the user does not trust.

    Args:
        callbacks: the node `hydra.callbacks`.

    Raises:
        UserError: there is one.
    """
    for key, target in _targets(callbacks or {}, "hydra.callbacks"):
        if target not in CALLBACKS and not _is_trusted(target):
            raise UserError(
                f"`{key}` must name code that you trust, but got {target!r}; {_if_trusted(target)}"
            )


def check_launcher(usual: Leaves, filed: Leaves) -> None:
    """Refuse texts that a launcher runs; numbers may be said, and texts where they are names.

    Args:
        usual: flat settings that the launcher's plugin comes with.
        filed: what files say, by its dotted key.

    Raises:
        UserError: there is one.
    """
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
        raise refused(full_key, "be typed, since launchers run what it says", value)


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
    return f"if you trust the package {package!r}, {how_to_trust(package)}"


def refused(key: str, rule: str, value: Any, *, show: bool = True) -> UserError:
    """The error for a key of a config file; `show` is false for what may hold a password."""
    typed = shlex.quote(f"{key}={value}") if isinstance(value, str | int | float) and show else ""
    return UserError(
        f"`{key}` must {rule}, but a config file says {value!r}; if you mean it, type it"
        + (f": {typed}" if typed else "")
    )
