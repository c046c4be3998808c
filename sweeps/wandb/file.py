"""A W&B sweep file run by our own sweeper, without W&B's server.

The file becomes overrides that stand before those of the command line, which win, and a search
space below what the command line searches. What cannot be honoured is refused by its name.
"""

from __future__ import annotations

import logging
import math
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import config as configs
from experiments.cli.grammar import advice, key_of, literal
from experiments.config import guard, permitted
from experiments.errors import UserError
from experiments.metrics import METRICS, validated
from sweeps.space.dimensions import Space
from sweeps.space.jobs import hydra_overrides
from sweeps.wandb import parameters as wandb_parameters

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

_IGNORED = {"apiVersion", "kind", "controller", "description"}
_KNOWN = {
    "program", "project", "entity", "name", "method", "metric", "run_cap", "command",
    "early_terminate", "parameters",
}  # fmt: skip
_NOT_HONOURED = {
    "metrics": "trials are compared by run.py's own objective=[psnr,ms_ssim]",
    "scheduler": "the sampler is hydra/sweeper/sampler",
    "job": "trials are started by hydra/launcher",
    "image_uri": "trials are started by hydra/launcher",
}
_SAMPLERS = {"grid": "grid", "random": "random", "bayes": "gp"}
_PRUNER = "hydra/sweeper/pruner=bands"
_OBJECTIVE = "objective"
_OURS = re.compile(r"(?:final/)?val/(\w+)")
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_BEFORE = {"${env}", "/usr/bin/env", "env", "${interpreter}"}
_PYTHON = re.compile(r"(.*/)?python[\d.]*")
_HARMLESS = re.compile(r"-[uBbEIOqs]+")
_WITH_VALUE = ("-W", "-X")  # whose value may be the next word
"""Options of Python that change nothing about a training."""
_ASSIGNED = re.compile(r"\w+=.*", re.DOTALL)
_CODE = re.compile(
    r"(LD|DYLD|VAESWEEP|HYDRA|GIT)_.*|PATH|PYTHON(PATH|HOME|STARTUP|PLATLIBDIR|USERBASE|BREAKPOINT)"
)
_ARGUMENTS = {
    "${args}",
    "${args_no_hyphens}",
    "${args_no_equals}",
    "${args_no_boolean_flags}",
    "${args_json}",
    "${args_json_file}",
    "${args_append_hydra}",
    "${args_override_hydra}",
}
"""Every way of passing the parameters on, which is the sweeper's own affair here."""


@dataclass(frozen=True)
class SweepFile:
    """What a file says.

    Attributes:
        overrides: of every trial.
        hydra: overrides of the sweeper.
        space: what is searched.
        metric: that the file names, or "objective"; None if it names none.
        goal: maximize or minimize.
    """

    overrides: tuple[str, ...]
    hydra: tuple[str, ...]
    space: Space
    metric: str | None
    goal: str


def is_named(config: DictConfig) -> bool:
    """Whether the search is that of a W&B sweep file."""
    return config.sweep.file is not None


def applied(config: DictConfig, loader: Any) -> tuple[list[str], DictConfig, Space]:
    """What the file of a sweep makes of a command: its overrides, its config, and a space.

    Args:
        config: Hydra's composed config of the sweep; `sweep.file` names the file.
        loader: Hydra's.

    Raises:
        UserError: the file cannot be read or honoured.
    """
    from hydra.types import RunMode

    typed = list(config.hydra.overrides.task)
    if not config.sweep.file:
        given = [text for text in typed if key_of(text) == "sweep.file"]
        raise UserError(
            "`sweep=wandb` must have sweep.file=PATH, one W&B sweep file a command, but got "
            f"{given[-1] if given else 'none'}"
        )
    path = Path(os.path.expanduser(config.sweep.file))
    try:
        file = read(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    hydra_typed = hydra_overrides(config)
    told = {key_of(text) for text in (*typed, *hydra_typed)}
    overrides = [text for text in file.overrides if key_of(text) not in told]
    if "hydra/sweeper/pruner" in told and _PRUNER not in hydra_typed:
        told |= {key_of(text) for text in file.hydra if "sweeper.pruner." in text}
    hydra = [text for text in file.hydra if key_of(text) not in told]
    composed = loader.load_configuration(
        config.hydra.job.config_name,
        [*hydra, *hydra_typed, *overrides, *typed],
        RunMode.MULTIRUN,
    )
    composed.hydra.mode = config.hydra.mode
    _check_goal(path, file, composed, is_typed=_OBJECTIVE in told)
    return [*overrides, *typed], composed, file.space


def read(path: Path) -> SweepFile:
    """Read and check a file.

    Raises:
        UserError: it is none, or says what cannot be honoured.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        _refuse_expansion(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"a W&B sweep file must be YAML that can be read, but {error}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"a W&B sweep file must hold keys, but got {reprlib.repr(content)}")
    _check_keys(content)
    method = content.get("method")
    if method not in wandb_parameters.METHODS:
        raise UserError(
            f"`method` must be one of {', '.join(wandb_parameters.METHODS)}, but got {method!r}"
        )
    if "parameters" not in content:
        raise UserError("`parameters` must say what is searched, but there are none")
    constants, space = wandb_parameters.read(content["parameters"], method)
    metric, goal = _metric(content)
    if metric is None and method == "bayes":
        raise UserError("`metric` must be there for method: bayes, but is not")
    texts = [*_settings(content, path, metric), *_command(content), *constants]
    overrides = {key_of(text): text for text in texts}  # what W&B's agent puts last counts
    guard.check_searched([*overrides.values(), *_searched(space)], "a W&B sweep file")
    return SweepFile(
        tuple(overrides.values()), tuple(_sweeper(content, method, metric)), space, metric, goal
    )


def _searched(space: Space) -> Iterator[str]:
    """Each dimension as an override, with each of its values where they are listed."""
    for dimension in space.dimensions:
        for text in dimension.texts or ("0",):
            yield f"{dimension.key}={text}"


_MOST_NODES = 10_000
"""As many as OmegaConf lets a config's aliases make."""


def _refuse_expansion(content: Any) -> None:
    """Refuse aliases (`*name`) that make a few bytes into any amount of memory."""
    counted: dict[int, float] = {}

    def count(node: Any) -> float:
        inside = node.values() if isinstance(node, Mapping) else node
        if isinstance(node, str) or not isinstance(inside, Iterable):
            return 1
        if id(node) not in counted:
            counted[id(node)] = math.inf  # of what holds itself
            counted[id(node)] = 1 + sum(map(count, inside))
        return counted[id(node)]

    found = count(content)
    if found > _MOST_NODES:
        raise UserError(
            f"a W&B sweep file must hold at most {_MOST_NODES:,} values, with its aliases (*NAME) "
            f"written out, but got {found:,.0f}"
        )


def _check_keys(content: Mapping[str, Any]) -> None:
    for key in content:
        if key in _NOT_HONOURED:
            raise UserError(
                f"`{key}` cannot be honoured without W&B's server: {_NOT_HONOURED[key]}"
            )
        if key not in _KNOWN | _IGNORED:
            raise UserError(
                f"a W&B sweep file must have keys of {', '.join(sorted(_KNOWN))}, but got {key!r}"
            )
    for key in ("name", "project", "entity", "program"):
        if not isinstance(content.get(key, ""), str):
            raise UserError(f"`{key}` must be a text, but got {content[key]!r}")


def _settings(content: Mapping[str, Any], path: Path, metric: str | None) -> Iterator[str]:
    yield f"name={literal(content.get('name') or path.stem)}"
    for key in ("project", "entity"):
        if key in content:
            yield f"logger.{key}={literal(content[key])}"
    if metric not in (None, _OBJECTIVE):
        yield f"objective={metric}"


def _metric(content: Mapping[str, Any]) -> tuple[str | None, str]:
    metric = content.get("metric")
    if metric is None:
        return None, ""
    if not isinstance(metric, Mapping) or "name" not in metric:
        raise UserError(f"`metric` must have a name and a goal, but got {metric!r}")
    for key in metric.keys() - {"name", "goal"}:
        raise UserError(
            f"`metric.{key}` cannot be honoured without W&B's server; leave it out"
            + ("; sweep.stop_after_no_improvement=10 ends a sweep" if key == "target" else "")
        )
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise UserError(f"`metric.goal` must be maximize or minimize, but got {goal!r}")
    name = metric["name"]
    ours = _OURS.fullmatch(str(name))
    if name != _OBJECTIVE and (ours is None or ours[1] not in validated()):
        raise UserError(
            "`metric.name` must be objective (that of run.py), or val/ and one of "
            f"{', '.join(validated())}, but got {name!r}"
        )
    return (ours[1] if ours else _OBJECTIVE), goal


def _check_goal(path: Path, file: SweepFile, config: DictConfig, *, is_typed: bool) -> None:
    """The goal must be that of the objective, unless another one was typed."""
    if file.metric is None or (is_typed and file.metric != _OBJECTIVE):
        return
    from omegaconf import OmegaConf

    objective = OmegaConf.to_container(OmegaConf.create({_OBJECTIVE: config.objective}))
    assert isinstance(objective, dict)
    name = configs.objectives({_OBJECTIVE: objective[_OBJECTIVE]})[0]
    if name in METRICS and METRICS[name].direction != file.goal:
        raise UserError(
            f"{path}: `metric.goal` must be {METRICS[name].direction} for {name}, but got "
            f"{file.goal} (W&B's default is minimize); change it, or choose another objective=..."
        )


def _sweeper(content: Mapping[str, Any], method: str, metric: str | None) -> Iterator[str]:
    yield f"hydra/sweeper/sampler={_SAMPLERS[method]}"
    run_cap = content.get("run_cap")
    if run_cap is not None:
        if not isinstance(run_cap, int) or isinstance(run_cap, bool) or run_cap < 1:
            raise UserError(f"`run_cap` must be an integer of 1 or more, but got {run_cap!r}")
        yield f"hydra.sweeper.n_trials={run_cap}"
    rule = content.get("early_terminate")
    if rule is None:
        yield "hydra/sweeper/pruner=none"
        return
    if not isinstance(rule, Mapping) or rule.get("type") != "hyperband":
        raise UserError(f"`early_terminate` must be of type: hyperband, but got {rule!r}")
    if metric is None:
        raise UserError("`metric` must be there for early_terminate, but is not")
    yield _PRUNER
    for key, value in rule.items():
        if key == "type":
            continue
        if key not in ("min_iter", "max_iter", "s", "eta", "strict"):
            raise UserError(
                "`early_terminate` must have min_iter, or max_iter and s, and may have eta and "
                f"strict, but got {key!r}"
            )
        yield f"hydra.sweeper.pruner.{key}={literal(value)}"
    yield f"hydra.sweeper.pruner.best_so_far={literal(metric == _OBJECTIVE)}"


def _command(content: Mapping[str, Any]) -> Iterator[str]:
    """The overrides in `command`, which must be ours."""
    program = content.get("program", "run.py")
    command = content.get("command", ["${program}", "${args}"])
    if not isinstance(command, list) or not command:
        raise UserError(f"`command` must be a list, but got {command!r}")
    for word in map(_with_variables, _after_program(list(map(str, command)), program)):
        if word in _ARGUMENTS:
            continue
        _check_override(word)
        yield word


def _after_program(words: Sequence[str], program: str) -> Sequence[str]:
    """What a command gives to run.py.

    What it says of the environment is left out: that is the user's, not a file's.

    Raises:
        UserError: it runs something else.
    """
    left_out = []
    for position, word in enumerate(words):
        if position and words[position - 1] in _WITH_VALUE:
            continue
        if _ASSIGNED.fullmatch(word):
            left_out.append(_assigned(word))
        elif Path(_with_variables(word).replace("${program}", program)).name == "run.py":
            _tell(left_out)
            return words[position + 1 :]
        elif not _is_of_python(word):
            break
    raise UserError(
        '`command` must start run.py and nothing else (["${env}", python, -u, run.py, '
        f'"${{args_no_hyphens}}"]; hydra/launcher starts the trials), but got {list(words)}'
    )


def _assigned(word: str) -> str:
    """The name of the variable, whose value may be a secret."""
    name = word.partition("=")[0]
    if _CODE.fullmatch(name):
        raise UserError(
            "`command` must not set what decides which code is loaded, but got "
            f"{name}=...; leave it out"
        )
    return name


def _tell(left_out: Sequence[str]) -> None:
    if left_out:
        log.warning(
            "`command` sets %s, which is left out: a sweep file does not decide about the "
            "environment; set it before the command if it is wanted",
            ", ".join(left_out),
        )


def _is_of_python(word: str) -> bool:
    """Whether it only says which Python runs the program, and how."""
    word = _with_variables(word)
    known = word in _BEFORE or word.startswith(_WITH_VALUE)
    return known or bool(_PYTHON.fullmatch(word) or _HARMLESS.fullmatch(word))


def _with_variables(word: str) -> str:
    def value(found: re.Match[str]) -> str:
        if not word.startswith("data.root="):  # what is no place of images goes no further
            permitted.check_readable([found[1]], word)
        if found[1] not in os.environ:
            raise UserError(f"`command` must name variables that are set, but {found[1]} is not")
        return os.environ[found[1]]

    return _VARIABLE.sub(value, word)


def _check_override(word: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        if "${" in word or word.startswith("-"):
            raise ValueError("it is another macro or an option")
        (override,) = OverridesParser.create().parse_overrides([word])
        if override.is_sweep_override():
            raise ValueError("it has several values, which belong under `parameters`")
        if override.is_hydra_override():
            raise ValueError("it is for the sweeper; give it on the command line")
    except (OverrideParseException, ValueError) as error:
        why = advice(word, repr) if isinstance(error, OverrideParseException) else error
        raise UserError(
            "`command` must hold KEY=VALUE and ${args_no_hyphens} after run.py, but got "
            f"{word!r}: {why}"
        ) from error
