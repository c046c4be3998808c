"""What is shipped, read as the programs read it that run it."""

from __future__ import annotations

import json
import re
import shlex
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
VARIABLES = {
    "PROJECT": "some-project", "REGION": "europe-west1", "ZONE": "europe-west1-b",
    "IMAGE": "registry.example/image:tag", "MACHINE": "g2-standard-4", "CPUS": "4",
    "ACCELERATOR": "NVIDIA_L4", "BUCKET": "some-bucket", "CHECKPOINT": "full/sweep/12",
    "NAME": "photos", "WORKERS": "3", "DATABASE": "database.example", "SWEEP": "quick",
    "STORAGE_CLASS": "nfs", "PHOTOS": "photos", "PROXIES": "10.244.0.0/16", "NAMESPACE": "default",
    "STORAGE": "postgresql://vaesweep@database.example/vaesweep",
}  # fmt: skip
"""What the files under deploy/ leave to the user, as somebody may set it."""


@dataclass
class Stage:
    """A stage of a Dockerfile: what it is made from, and its instructions in their order."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for kind, text in self.steps if kind == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]

    def copies(self) -> list[tuple[list[str], str]]:
        """Sources and target of each COPY from the context."""
        split = [shlex.split(text) for text in self.all("COPY") if "--from" not in text]
        return [(words[:-1], words[-1]) for words in split]


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile, by name."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: dict[str, Stage] = {}
    for line in filter(None, joined.splitlines()):
        kind, _, rest = line.partition(" ")
        if kind == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(base)
        elif found:
            list(found.values())[-1].steps.append((kind, rest.strip()))
    return found


def locked(path: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a lock, each with the hashes of its files."""
    joined = (ROOT / path).read_text().replace("\\\n", " ").splitlines()
    entries = (line.split(" --hash=") for line in joined)
    return [(Requirement(first), [found.strip() for found in rest]) for first, *rest in entries]


def health_command() -> list[str]:
    """What the serving image runs to see whether it lives."""
    _, _, command = stages()["serve"].last("HEALTHCHECK").partition("CMD ")
    return list(json.loads(command))


def filled(path: str) -> str:
    """A file under deploy/ as `envsubst` leaves it."""
    return string.Template((ROOT / path).read_text()).safe_substitute(VARIABLES)


def documents(path: str) -> list[Any]:
    """The YAML documents in a file under deploy/, filled in."""
    return list(yaml.safe_load_all(filled(path)))


def lint(program: str, *arguments: str | Path) -> str:
    """Run a linter that pip installed; what it complains of."""
    done = subprocess.run(
        [BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
