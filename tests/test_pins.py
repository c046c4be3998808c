"""What comes from elsewhere is named by its digest or its hash, so that nobody can exchange it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.shipping import ROOT, documents, locked, stages

DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
LOCKS = [f"requirements{kind}.lock" for kind in ("", ".cpu", ".cuda")]
LOCKS += [f"deploy/images/{image}.lock" for image in ("train", "serve")]


def workflows() -> dict[str, str]:
    return {path.name: path.read_text() for path in (ROOT / ".github/workflows").iterdir()}


def images() -> Iterator[tuple[str, str]]:
    """Each image that is taken from elsewhere: where it is named, and its name."""
    for name, stage in stages().items():
        if stage.base not in stages():
            yield f"Dockerfile: {name}", stage.base
    for name, service in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].items():
        if "build" not in service:
            yield f"compose.yaml: {name}", service["image"]
    for step in yaml.safe_load((ROOT / "deploy/google/cloudbuild.yaml").read_text())["steps"]:
        yield f"cloudbuild.yaml: {step['id']}", step["name"]


def test_an_action_is_a_commit_and_its_tag_a_comment() -> None:
    used = [
        line.split("uses: ")[1]
        for text in workflows().values()
        for line in text.splitlines()
        if "uses: " in line
    ]
    theirs = [action for action in used if not action.startswith("./")]
    assert len(theirs) >= 6
    for action in theirs:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_an_image_is_a_digest() -> None:
    found = dict(images())
    assert {where.split(":")[0] for where in found} == {
        "Dockerfile", "compose.yaml", "cloudbuild.yaml",
    }  # fmt: skip
    for where, image in found.items():
        assert DIGEST.fullmatch(image), f"{where} must name {image} with its digest"


def test_every_kind_of_pin_is_renewed_by_pull_requests() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    kinds = {update["package-ecosystem"] for update in updates}
    assert kinds == {"github-actions", "docker", "docker-compose"}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_the_hashes_of_its_files(lock: str) -> None:
    pins = locked(lock)
    assert pins
    for requirement, hashes in pins:
        assert [s.operator for s in requirement.specifier] == ["=="], str(requirement)
        assert hashes, f"{requirement.name} in {lock} must have hashes"
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", found) for found in hashes)


def test_an_image_installs_files_that_a_checkout_would_install() -> None:
    whole = {(pin.name, pin.specifier): hashes for pin, hashes in locked("requirements.lock")}
    for image in ("train", "serve"):
        for pin, hashes in locked(f"deploy/images/{image}.lock"):
            assert whole[pin.name, pin.specifier] == hashes


def test_torch_is_of_its_own_index_or_of_pypi_and_has_the_hashes_of_either() -> None:
    assert [pin.name for lock in LOCKS for pin, _ in locked(lock)].count("torch") == 2
    ((cpu, built),) = locked("requirements.cpu.lock")
    (pypi,) = (hashes for pin, hashes in locked("requirements.cuda.lock") if pin.name == "torch")
    assert str(cpu) == "torch==2.13.0+cpu"
    # Python 3.11 to 3.13, each for Linux on two processors and for Windows.
    assert len(built) == 9
    assert len(pypi) > 9
    assert not set(built) & set(pypi)
    # The file for Python 3.11 on Linux and x86_64, as PyTorch's index lists it.
    of_311 = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
    assert of_311 in built


def test_nothing_is_installed_without_its_hash() -> None:
    """In a build, a workflow, a machine's set-up or `make`."""
    texts = {
        "Dockerfile": " ".join(text for s in stages().values() for _, text in s.steps),
        "Makefile": (ROOT / "Makefile").read_text(),
        "cluster.yaml": " ".join(documents("deploy/ray/cluster.yaml")[0]["setup_commands"]),
        **workflows(),
    }
    for name, text in texts.items():
        for found in re.findall(r"pip\"? install (.*)", text):
            hashed = "--require-hashes" in found or "PIP_REQUIRE_HASHES=1" in text
            assert hashed, f"{name} must install by hash, but has: pip install {found}"


FAKE_UV = """\
#!/usr/bin/env bash
# Stands for uv: writes what it would pin to the file that it is told.
while [[ $# -gt 0 ]]; do
  [[ $1 == --output-file ]] && out=$2
  shift
done
printf '%s\\n' 'a==1 \\' '    --hash=sha256:aa' 'nvidia-x==2 \\' '    --hash=sha256:bb' \\
  'torch==2.13.0 \\' '    --hash=sha256:cc' 'triton==3 \\' '    --hash=sha256:dd' > "$out"
"""


def test_the_locks_have_torchs_files_of_both_indexes_each_apart(tmp_path: Path) -> None:
    clone, tools = tmp_path / "clone", tmp_path / "bin"
    for made in (clone / "deploy/images", tools):
        made.mkdir(parents=True)
    for name in ("deploy/lock.sh", "pyproject.toml"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    for name in LOCKS[:3]:
        (clone / name).touch()
    uv = tools / "uv"
    uv.write_text(FAKE_UV)
    uv.chmod(0o755)
    index = tmp_path / "index.html"
    index.write_text(
        "".join(
            f'<a href="https://files.example/{file}#sha256={digit * 64}">{file}</a><br/>\n'
            for digit, file in {
                "1": "torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
                "2": "torch-2.13.0%2Bcpu-cp313-cp313t-manylinux_2_28_x86_64.whl",
                "3": "torch-2.12.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
                "4": "torch-2.13.0+cpu-cp312-cp312-win_amd64.whl",
            }.items()
        )
    )
    environment = {
        **os.environ,
        "INDEX": index.as_uri(),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["bash", "deploy/lock.sh"]
    subprocess.run(command, cwd=clone, env=environment, check=True)
    pinned = "a==1 \\\n    --hash=sha256:aa\n"
    cpu = f"torch==2.13.0+cpu \\\n    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'4' * 64}\n"
    cuda = "".join(
        f"{name} \\\n    --hash=sha256:{digits}\n"
        for name, digits in (("nvidia-x==2", "bb"), ("torch==2.13.0", "cc"), ("triton==3", "dd"))
    )
    assert [(clone / lock).read_text() for lock in LOCKS] == [pinned, cpu, cuda, pinned, pinned]

    (clone / LOCKS[1]).write_text("torch==2.12.0+cpu\n")
    index.write_text("nothing of this version")
    done = subprocess.run(
        command, cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0, "there is no such build"
    assert (clone / LOCKS[1]).read_text() == "torch==2.12.0+cpu\n"
