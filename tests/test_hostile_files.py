"""What somebody else's files may cost, and what a person sees of them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.hostile.files import KINDS, Case, make

SEED = 0
"""Another one draws other files; what it finds becomes a case of its own."""
MOST = 12
"""Cases of a kind that are read; the seed draws which."""
MORE = 300
"""MB that a hostile file may cost beyond what an honest one does."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of PyTorch, about tensors that nobody should save
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux"),
]


def some_of(cases: Iterable[Case]) -> Iterator[Case]:
    """Some of each kind, drawn; honest ones all."""
    for kind, own in itertools.groupby(cases, lambda case: case.kind):
        every = list(own)
        few = len(every) if kind == "honest" else min(MOST, len(every))
        yield from Random(f"{SEED} {kind}").sample(every, few)


@pytest.fixture(scope="module")
def read(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What became of each case."""
    folder = tmp_path_factory.mktemp("hostile")
    cases, found = folder / "cases.json", folder / "found.jsonl"
    cases.write_text(json.dumps([case.plain() for case in some_of(make(folder, trained, SEED))]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment |= {"VAESWEEP_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.hostile.reading", str(cases), str(found)]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return [json.loads(line) for line in found.read_text().splitlines()]


def test_there_are_enough_kinds_and_files(read: list[dict[str, Any]]) -> None:
    kinds = Counter(case["kind"] for case in read)
    assert len(kinds) > 20
    assert kinds.keys() == {"honest", *KINDS}
    assert sum(kinds.values()) >= 200


def test_honest_files_are_read(read: list[dict[str, Any]]) -> None:
    refused = {c["name"]: c["said"] for c in read if c["kind"] == "honest" and c["said"]}
    assert not refused


def test_whoever_reads_a_hostile_file_gets_a_sentence_or_what_it_holds(
    read: list[dict[str, Any]],
) -> None:
    faults = [f"{c['kind']}: {c['name']}: {fault}" for c in read for fault in c["faults"]]
    assert not faults, "\n".join(faults)


def test_a_hostile_file_takes_little_more_memory_than_an_honest_one(
    read: list[dict[str, Any]],
) -> None:
    honest = max(case["megabytes"] for case in read if case["kind"] == "honest")
    large = {
        f"{c['kind']}: {c['name']}": c["megabytes"] for c in read if c["megabytes"] > honest + MORE
    }
    assert not large


def test_nothing_that_a_file_holds_was_run(read: list[dict[str, Any]]) -> None:
    (folder,) = {Path(c["reference"]).parents[1] for c in read if c["kind"] == "truncated"}
    assert not (folder / "code" / "ran").exists()
    assert not (folder / "owned").exists()
