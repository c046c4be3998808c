"""`wandb agent` drives `run.py`: its arguments as Hydra's, and failures that it hears of.

The agent writes each parameter of its sweep as `key=str(value)`, which Hydra reads otherwise: None
becomes a text, a text with a comma a list. The values themselves are in a file that it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.cli.grammar import literal
from experiments.config import guard
from experiments.errors import UserError
from experiments.terminal import message_of
from experiments.tracking.wandb import run as wandb_run

_PARAMETERS = "WANDB_SWEEP_PARAM_PATH"


def overrides(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Arguments of `run.py` with those that `wandb agent` wrote as Hydra's overrides.

    Parameters keep their types, also in `${args}` (`--key=value`). One that holds parameters
    becomes an override for each: `loss` with `scale` is `loss.scale=...`. A whole number that the
    search made a float (16.0) is whole again. Everything else is left as it is.

    Raises:
        UserError: the agent's file cannot be read.
    """
    path = environment.get(_PARAMETERS)
    if not wandb_run.by_agent(environment) or not path:
        return list(arguments)
    written = {f"{key}={value}": (key, value) for key, value in _parameters(Path(path)).items()}
    found: list[str] = []
    for argument in arguments:
        prefix, text = re.fullmatch(r"(--|\+{0,2})(.*)", argument, re.DOTALL).groups()  # type: ignore[union-attr]
        if text in written:
            prefix = prefix.strip("-")
            named = [prefix + override for override in _overrides(*written[text])]
            guard.check_searched(named, "a sweep of W&B")
            found += named
        else:
            found.append(argument)
    return found


@contextmanager
def reporting() -> Iterator[None]:
    """Let the sweep of `wandb agent` know the reason if a trial fails before its run began."""
    try:
        yield
    except Exception as error:
        if wandb_run.by_agent() and not wandb_run.has_started():
            wandb_run.report_failure(message_of(error) or f"{type(error).__name__}: {error}")
        raise


def _parameters(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {k: v["value"] for k, v in content.items() if k != "wandb_version"}
    except (
        OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"`{_PARAMETERS}` must name the file that `wandb agent` wrote, but {path} "
            f"cannot be read as one ({error})"
        ) from error


def _overrides(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, nested in value.items():
            yield from _overrides(f"{key}.{name}", nested)
    else:
        yield f"{key}={literal(value)}"
