"""Commands for people to type, such that they work where they are read.

The project is used from its clone, mostly in its directory; a message may be read elsewhere.
"""

from __future__ import annotations

import os
import shlex
import sys
from importlib import metadata
from pathlib import Path

from experiments.cli.grammar import key_of, literal
from experiments.machine import plugins
from losses import trust

_ROOT = Path(__file__).parents[2]
_NAME = "vaesweep"
# As the shell set it: a sweep adds the project for its workers.
_LISTED = tuple(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def train(*overrides: str) -> str:
    """`python run.py` with overrides as a shell reads them."""
    program = "run.py" if _is_here() else str(_ROOT / "run.py")
    return _with_the_users_word(shlex.join(["python", program, *overrides]))


def train_in(directory: Path) -> str:
    """The command of this process with another `hydra.run.dir`, without what launched it."""
    return train(*_arguments_in(directory))


def arguments_in(directory: Path) -> str:
    """The arguments of that command, as a shell reads them."""
    return shlex.join(_arguments_in(directory))


def _arguments_in(directory: Path) -> list[str]:
    typed = [text for text in sys.argv[1:] if key_of(text) != "hydra.run.dir"]
    place = directory.absolute()
    if Path.cwd() in place.parents:
        place = place.relative_to(Path.cwd())
    return [*typed, f"hydra.run.dir={literal(str(place))}"]


def module(name: str, *arguments: str) -> str:
    """The command that runs a module, with arguments as a shell reads them."""
    command = shlex.join(["python", "-m", name, *arguments])
    if not _is_importable():
        command = f"PYTHONPATH={shlex.quote(str(_ROOT))} {command}"
    return _with_the_users_word(command)


def install(extra: str) -> str:
    """What brings the packages of an extra of pyproject.toml; no index knows the project."""
    source = "." if _is_here() else str(_ROOT)
    known = source if (_ROOT / "pyproject.toml").is_file() else _NAME
    return shlex.join(["pip", "install", "--editable", f"{known}[{extra}]"])


def _with_the_users_word(command: str) -> str:
    """Behind the variables without which it is refused where they are needed here."""
    word = {name: os.environ.get(name) for name in (trust.VARIABLE, plugins.VARIABLE)}
    given = [f"{name}={shlex.quote(value)}" for name, value in word.items() if value]
    return " ".join([*given, command])


def _is_here() -> bool:
    return Path.cwd() == _ROOT


def _is_importable() -> bool:
    """Whether a Python that starts here finds the project's packages."""
    if _is_here() or any(Path(path).absolute() == _ROOT for path in _LISTED):
        return True
    try:
        metadata.distribution(_NAME)
    except metadata.PackageNotFoundError:
        return False
    return True
