"""What Hydra and OmegaConf say of an override, in the words of our own errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from experiments.cli import commands
from experiments.cli.grammar import advice
from experiments.machine.plugins import FROM_OUTSIDE

_SEVERAL = re.compile(r"Ambiguous value for argument '(.*?)'\n1\. ", re.DOTALL)
"""Hydra's word for several values in a single run, whose remedy suits no value with spaces."""
_TYPE = re.compile(
    r"Value '(.*?)' of type '\w+' could not be converted to (\w+)|"
    r"Value '(.*?)' is not a valid (bool) ",
    re.DOTALL,
)
_TYPES = {"Integer": "an integer", "Float": "a number", "bool": "true or false"}
_UNKNOWN = re.compile(r"Could not (?:override|delete from config\.) '(.*?)'")
_TWICE = re.compile(
    r"(\S+) appears more than once in the final defaults list|"
    r"Could not append to config\. An item is already at '(.*?)'"
)
_NAMELESS = re.compile(r"Config group override must be a string or a list\. Got (\w+)")
_NOTHING = re.compile(r"field '(.*?)' is not Optional|Missing mandatory value: (\S+)")
_MISSING = re.compile(r"Could not (?:find|load) '(.*)/(.*?)'|Cannot find primary config '(.*?)'")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of a key that the config does not have, but others in its place."""
    section, _, name = key.rpartition(".")
    known = [str(other) for other in known]
    if close := get_close_matches(name, known, n=1):
        return (
            f"`{key}` is not a key of the config; did you mean {key.removesuffix(name)}{close[0]}?"
        )
    of = f" in {section}" if section else ""
    choices = f"; known{of} are {', '.join(known)}" if known else ""
    return f"`{key}` is not a key of the config{choices}"


def told(error: Exception) -> str | None:
    """What is wrong, and what to type instead; None for what is neither Hydra's nor OmegaConf's."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, OverrideParseException):
        return advice(error.override)
    text, cause = str(error), error.__cause__
    if several := _SEVERAL.match(text):
        return advice(several[1])
    if nameless := _NAMELESS.match(text):
        got = {"NoneType": "null"}.get(nameless[1], f"a value of type {nameless[1]}")
        return f"a config group (such as loss) must be given the name of a choice, but got {got}"
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if nothing := _NOTHING.search(f"{text}\n{cause}"):
        return f"`{nothing[1] or nothing[2]}` must have a value, but got none"
    if of_type := _of_type(cause or error):
        return of_type
    if isinstance(error, MissingConfigException) and (missing := _MISSING.search(text)):
        name = missing[2] if missing[1] else missing[3]
        return _no_choice(missing[1], name or "nothing", error.options or ())
    if unknown := _UNKNOWN.match(text):
        return unknown_key(unknown[1], getattr(cause, "parent_node", None) or ())
    if twice := _TWICE.match(text):
        key = twice[1] or twice[2]
        return f"`{key}` must be given without +, which adds a key, since the config has it already"
    return f"{text}\n{cause}" if isinstance(cause, OmegaConfBaseException) else text


def _no_choice(group: str | None, name: str, choices: Sequence[str]) -> str:
    if group is None:
        return f"`--config-name` must name a file in the config's folder, but got {name}"
    remedies = []
    if group == "hydra/launcher":
        remedies.append(f"launchers are packages: {commands.install('joblib')}, [ray] or [slurm]")
    elif group in ("data", "logger", "model"):
        remedies.append(FROM_OUTSIDE)
    if close := get_close_matches(name, choices, n=1):
        remedies.append(f"did you mean {close[0]}?")
    rule = f"one of {', '.join(choices)}" if choices else "a file in the config's folder"
    return "; ".join([f"`{group}` must be {rule}, but got {name}", *remedies])


def _of_type(error: Any) -> str | None:
    """What OmegaConf says of a value of another type than its key's."""
    found = _TYPE.match(str(error))
    if found is None:
        return None
    value, kind = found[1] or found[3], found[2] or found[4]
    remedy = ""
    if kind == "Integer" and re.fullmatch(r"-?\d+\.0", value):
        remedy = f"; type {error.full_key}={value.removesuffix('.0')}"
    return f"`{error.full_key}` must be {_TYPES.get(kind, kind)}, but got {value}{remedy}"
