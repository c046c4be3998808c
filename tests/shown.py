"""The commands that the project shows to people, taken from where it shows them."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.shipping import documents

ROOT = Path(__file__).parents[1]

PROGRAMS = {
    "apt-get", "aws", "az", "cd", "docker", "dvc", "echo", "envsubst", "export", "gcloud", "git",
    "jupyter", "kubectl", "make", "mkdir", "nvidia-cuda-mps-control", "nvidia-smi", "openssl",
    "optuna", "optuna-dashboard", "pip", "psql", "python", "python3", "ray", "sbatch", "scancel",
    "source", "squeue", "srun", "ssh", "tensorboard", "torchrun", "tr", "uv", "wandb",
}  # fmt: skip
"""By whose name a command in the middle of a text is known; in a shell's block all are."""

PACKAGES = ("analysis", "benchmarks", "experiments", "losses", "models", "serving", "sweeps")
_SHELLS = {"bash", "sh", "shell", "console"}
_ASSIGNMENTS = re.compile(r"^(?:[A-Z_][A-Z0-9_]*=(?:'[^']*'|\"[^\"]*\"|\S*) +)+")
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_PLACEHOLDER = re.compile(r"<([a-z][\w ]*)>")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ENDS = {"|", "||", "&&", ";", "&"}


@dataclass(frozen=True)
class Shown:
    """A command as somebody may type it, and where it stands."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class Simple:
    """One program with its arguments, without what a shell does with them.

    Attributes:
        words: of the program.
        environment: that is set for it.
        files: that it reads or writes by `<` and `>`.
    """

    words: tuple[str, ...]
    environment: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def is_command(text: str) -> bool:
    """Whether a piece of text is a command with arguments, and no mere name."""
    words = _ASSIGNMENTS.sub("", text).split()
    mentioned = [["-m"], ["run.py", "-m"], ["..."]]
    return len(words) > 1 and words[0] in PROGRAMS and words[1:] not in mentioned


def everywhere() -> list[Shown]:
    """Every command that is shown, each text once."""
    found: dict[str, Shown] = {}
    for shown in _all():
        text = re.sub(r"\s#\s.*$", "", " ".join(shown.text.split()))
        found.setdefault(text, Shown(shown.place, text))
    return list(found.values())


def _all() -> Iterator[Shown]:
    yield from _in_pages()
    yield from _in_comments()
    yield from _in_help()
    yield from _in_code()
    yield from _in_notebooks()
    for name, command in pipeline().items():
        yield Shown(f"dvc.yaml, {name}", command)


def pages() -> list[Path]:
    """What is written for people to read."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *(ROOT / folder / "README.md" for folder in ("analysis/study", "benchmarks")),
    ]


def in_markdown(text: str) -> Iterator[str]:
    """The commands of a page: those of its shells' blocks, and those within its lines."""
    for language, block in _FENCE.findall(text):
        if language in _SHELLS:
            yield from _lines(block)
    for code in _INLINE.findall(_FENCE.sub("", text)):
        joined = " ".join(code.split())
        if is_command(joined):
            yield joined


def python_blocks(path: Path) -> list[str]:
    """The examples in Python of a page."""
    return [block for kind, block in _FENCE.findall(path.read_text()) if kind == "python"]


def simple_commands(text: str) -> list[Simple]:
    """A command taken apart as a shell takes it apart.

    Raises:
        ValueError: it cannot be.
    """
    lexer = shlex.shlex(_PLACEHOLDER.sub(_filled, text), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    found: list[Simple] = []
    words: list[str] = []
    files: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if token in _ENDS:
            if words or files:
                found.append(_simple(words, files))
            words, files = [], []
        elif token in ("<", ">", ">>"):
            files.append(next(tokens))
        else:
            words.append(token)
    return found


def _filled(match: re.Match[str]) -> str:
    return match[1].replace(" ", "-").upper()


def _simple(words: list[str], files: list[str]) -> Simple:
    count = 0
    while count < len(words) and re.match(r"[A-Z_][A-Z0-9_]*=", words[count]):
        count += 1
    return Simple(tuple(words[count:]), tuple(words[:count]), tuple(files))


def _lines(block: str) -> Iterator[str]:
    """The commands of a shell's block, continued lines as one."""
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        text = line.removeprefix("$ ").strip()
        if text and not text.startswith("#"):
            yield text


def _in_pages() -> Iterator[Shown]:
    for path in pages():
        for text in in_markdown(path.read_text(encoding="utf-8")):
            yield Shown(_name(path), text)


def in_comments(text: str) -> Iterator[str]:
    """The commands in a file's comments: on lines of their own, further in than the rest."""
    joined = re.sub(r"\s*\\\n\s*#\s*", " ", text)
    for line in joined.splitlines():
        match = re.match(r"\s*#(\s*)(.*)$", line)
        if match is None:
            continue
        own = re.split(r"\s{2,}", match[2])[0]
        if len(match[1]) > 1 and is_command(own):
            yield own
        yield from (code for code in _INLINE.findall(match[2]) if is_command(code))


def _in_comments() -> Iterator[Shown]:
    folders = ("conf", "deploy", "sweeps/wandb", "serving/monitoring", "tests/slurm")
    kinds = {".yaml", ".yml", ".sbatch", ".sh", ".txt"}
    files = [p for f in folders for p in sorted((ROOT / f).rglob("*")) if p.suffix in kinds]
    files += [ROOT / name for name in ("compose.yaml", "dvc.yaml", "params.yaml", "Makefile")]
    for path in [*files, ROOT / "Dockerfile"]:
        for text in in_comments(path.read_text(encoding="utf-8")):
            yield Shown(_name(path), text)


def _in_help() -> Iterator[Shown]:
    for path in sorted((ROOT / "conf/hydra/help").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for text in in_help("\n".join(content[key] for key in ("header", "footer"))):
            yield Shown(_name(path), text)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in re.findall(r"##.*?\b(make \S.*)$", makefile, re.MULTILINE):
        yield Shown("Makefile", text)


def in_help(text: str) -> Iterator[str]:
    """The commands in what `--help` prints: at the ends of its lines, or in backticks."""
    for line in text.splitlines():
        inline = [code for code in _INLINE.findall(line) if is_command(code)]
        yield from inline
        match = re.search(r"(?:^|\s)(python run\.py\b.*)$", line)
        if match and not inline:
            yield match[1]


def _in_code() -> Iterator[Shown]:
    files = [ROOT / "run.py", *(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))]
    for path in sorted(files):
        for text in in_docstrings(path.read_text(encoding="utf-8")):
            yield Shown(_name(path), text)


def in_docstrings(source: str) -> Iterator[str]:
    """The commands in the docstrings of a module and of what is in it."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        if not text:
            continue
        for code in _INLINE.findall(text):
            if is_command(" ".join(code.split())):
                yield " ".join(code.split())
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            if line.startswith("    ") and is_command(_PLACEHOLDER.sub(_filled, line.strip())):
                yield re.split(r"\s{2,}", line.strip())[0]


def _in_notebooks() -> Iterator[Shown]:
    for path in sorted((ROOT / "analysis").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            find = in_markdown if cell["cell_type"] == "markdown" else in_comments
            for text in find(source):
                yield Shown(_name(path), text)


def in_deployments() -> Iterator[tuple[str, list[str]]]:
    """What containers start of `run.py`: where, and its arguments."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    entry = services["sweep"]["entrypoint"]
    assert entry[:2] == ["python", "run.py"]
    yield "compose.yaml: sweep", [*entry[2:], *services["sweep"]["command"]]
    yield "compose.yaml: train", services["train"]["command"]
    (job,) = documents("deploy/kubernetes/sweep.yaml")
    yield "deploy/kubernetes/sweep.yaml", _args(job["spec"]["template"]["spec"]["containers"][0])
    (job,) = documents("deploy/google/vertex.yaml")
    yield "deploy/google/vertex.yaml", _args(job["workerPoolSpecs"][0]["containerSpec"])


def _args(container: Any) -> list[str]:
    arguments: list[str] = container["args"]
    return arguments


def pipeline() -> dict[str, str]:
    """The commands of dvc.yaml's stages, with the values of params.yaml."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())

    def value(match: re.Match[str]) -> str:
        section, _, key = match[1].partition(".")
        return str(params[section][key])

    return {name: re.sub(r"\$\{([\w.]+)\}", value, stage["cmd"]) for name, stage in stages.items()}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
