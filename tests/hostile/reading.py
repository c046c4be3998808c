"""Reads hostile files, each in a process of its own that may not take much: `reading CASES OUT`.

A fork for each: what it costs to import PyTorch and pandas is paid once.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

_CPU_SECONDS = 40  # a case takes well below one
_WALL_SECONDS = 200  # for what waits for ever, on a machine where much else runs
_ADDRESSES = 6 * 2**30  # beyond what is taken: so that a fault does not end the machine


def read(reader: str, reference: str) -> object:
    """Give a reference to a reader."""
    if reader == "serve":
        from serving.model.checkpoints import load

        return load(reference)
    if reader == "weights":
        from analysis.trained.models import load_network

        return load_network(reference)
    if reader == "analyse":
        from analysis.comparison import compare
        from analysis.load import load as load_runs

        return compare(load_runs(reference)).verdict
    if reader == "images":
        from experiments.data import load_images

        with tempfile.TemporaryDirectory() as cache:
            return load_images(root=Path(reference), cache_dir=Path(cache), size=32, progress=False)
    if reader == "rerun":
        from experiments.rerun import rerun

        with tempfile.TemporaryDirectory() as out:
            return rerun(Path(reference), Path(out) / "again")
    if reader == "search":
        from sweeps.wandb.file import read as read_file

        return read_file(Path(reference))
    return _command(reader, reference)


def _command(name: str, reference: str) -> object:
    """A command of its own, as it is typed."""
    with tempfile.TemporaryDirectory() as out:
        if name == "generate":
            from serving.generate import main

            checkpoint, _, photo = reference.partition("|")
            given = ["--checkpoint", checkpoint, "--out", f"{out}/x.png", "--no-progress"]
            sys.argv = ["generate", *given, "--reconstruct", photo]
        else:
            from serving.export import main

            given = ["--format", "torch", "--part", "decoder"]
            sys.argv = ["export", "--checkpoint", reference, *given, "--out", f"{out}/x.pt2"]
        main()
    return None


def outcome(reader: str, reference: str) -> dict[str, Any]:
    """What becomes of a case: `said` of a refusal, `faults` that a person must not see."""
    from experiments.terminal import errors_for_people

    words = io.StringIO()
    handler = logging.StreamHandler(words)
    logging.getLogger().addHandler(handler)
    faults: list[str] = []
    said = ""
    try:
        with redirect_stdout(words), redirect_stderr(words), errors_for_people():
            read(reader, reference)
    except SystemExit as ended:
        said = "refused" if ended.code else ""
        faults += [f"asked for memory: {e!r:.200}" for e in _chain(ended) if _is_of_memory(e)]
    except BaseException as error:  # noqa: BLE001 - whatever a person would see
        faults.append("".join(traceback.format_exception(error, limit=-6))[-3000:])
    shown = words.getvalue()
    faults += [f"unprintable: {line!r:.200}" for line in shown.split("\n") if not _is_clean(line)]
    if "Traceback (most" in shown:
        faults.append(f"a traceback: {shown[-1500:]}")
    if len(shown) > 50_000:
        faults.append(f"{len(shown)} characters of words")
    said = said and shown.strip().rpartition("error: ")[2]
    # What a pipe takes at once: nobody reads it before this process has ended.
    return {"said": said[:2000], "faults": [fault[:3000] for fault in faults[:5]]}


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "allocat" in str(error).lower()


def _is_clean(line: str) -> bool:
    return all(c.isprintable() or c in "\t\r" for c in line)


def _memory(name: str) -> int:
    """Of this process, kB: VmRSS now, VmHWM at most, VmSize of addresses."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


def _child(case: dict[str, str], pipe: int) -> None:
    before = _memory("VmRSS")
    size = _memory("VmSize") * 1024 + _ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    found = outcome(case["reader"], case["reference"])
    found["megabytes"] = (_memory("VmHWM") - before) // 1024
    with os.fdopen(pipe, "w") as file:
        json.dump(found, file)


def attempt(case: dict[str, str]) -> dict[str, Any]:
    """A case in a process of its own."""
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _child(case, writing)
        finally:
            os._exit(0)
    os.close(writing)
    status = None
    while status is None and time.monotonic() - began < _WALL_SECONDS:
        ended, how = os.waitpid(child, os.WNOHANG)
        status = how if ended else None
        time.sleep(0.005)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        text = file.read()
    found = json.loads(text) if text else {"said": "", "megabytes": 0, "faults": [_death(status)]}
    return {**case, **found, "seconds": round(time.monotonic() - began, 1)}


def _death(status: int | None) -> str:
    if status is None:
        return f"it did not end within {_WALL_SECONDS} s"
    return f"it died of signal {os.WTERMSIG(status)} ({_CPU_SECONDS} s of processor time at most)"


def main(cases: str, out: str) -> None:
    """Read all cases of a JSON file; write what became of each, a line each.

    Those of the kind `honest` are read by this process before, which loads what is loaded late.
    """
    for module in ("experiments.rerun", "experiments.trial", "sweeps.wandb.file"):
        importlib.import_module(module)
    listed = json.loads(Path(cases).read_text())
    # One thread: the threads of a pool do not live on in a fork, which would wait for them.
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    logging.basicConfig(stream=io.StringIO())
    for case in listed:
        if case["kind"] == "honest":
            outcome(case["reader"], case["reference"])
    gc.collect()
    gc.freeze()
    with open(out, "w") as file:
        for case in listed:
            file.write(json.dumps(attempt(case)) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
