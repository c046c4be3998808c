"""`make` installs without pip's noise: one line while it works, all of pip's words if it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import missing

ROOT = Path(__file__).parents[1]
LOCKS = [f"requirements{kind}.lock" for kind in ("", ".cpu", ".cuda")]
WARNINGS = 300
PYTHON = f"""\
#!/bin/sh
# Stands for a Python whose pip warns of everything and, where the file `broken` lies, fails.
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip install "*)
    echo "$* with $PIP_NO_DEPS $PIP_REQUIRE_HASHES" >> asked
    for number in $(seq {WARNINGS}); do
      echo "WARNING: Location $number of the cache is odd" >&2
      echo "Collecting package-$number"
    done
    if [ -e pypi ] && [ "$5" = requirements.cpu.lock ]; then exit 1; fi
    if [ -e broken ]; then echo "ERROR: No matching distribution found for torch" >&2; exit 1; fi ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make install` needs, with a Python of ours."""
    for name in ("Makefile", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def make(clone: Path, target: str = "install") -> subprocess.CompletedProcess[str]:
    """As a user types it, whatever `make` runs this test."""
    if shutil.which("make") is None:
        missing("needs make")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", target, f"PYTHON={clone / 'python'}"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_installation_that_works_says_one_line(clone: Path) -> None:
    done = make(clone)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "installing what requirements.lock pins into .venv (a few minutes)"
    ]
    assert done.stderr == ""


@pytest.mark.parametrize("target", ["run", "lint"])
def test_a_command_that_installs_first_is_heard_alone(clone: Path, target: str) -> None:
    done = make(clone, target)
    assert "WARNING" not in done.stdout + done.stderr
    assert "Collecting" not in done.stdout + done.stderr


def test_an_installation_that_fails_shows_all_that_pip_said(clone: Path) -> None:
    (clone / "broken").touch()
    done = make(clone)
    assert done.returncode != 0
    for number in (1, WARNINGS):
        assert f"WARNING: Location {number} of the cache is odd" in done.stderr
        assert f"Collecting package-{number}" in done.stderr
    assert "ERROR: No matching distribution found for torch" in done.stderr


def test_an_installation_that_failed_is_tried_again_and_then_not_again(clone: Path) -> None:
    (clone / "broken").touch()
    assert make(clone).returncode != 0
    (clone / "broken").unlink()
    assert "installing" in make(clone).stdout
    assert "installing" not in make(clone).stdout


@pytest.mark.parametrize("pypi", [False, True])
def test_torch_has_cuda_only_where_there_is_no_build_without(clone: Path, pypi: bool) -> None:
    if pypi:  # which has no version `2.13.0+cpu`
        (clone / "pypi").touch()
    assert make(clone).returncode == 0
    asked = (clone / "asked").read_text().splitlines()
    wanted = LOCKS if pypi else LOCKS[:2]
    assert asked == [f"-m pip install -r {lock} with 1 1" for lock in wanted]
