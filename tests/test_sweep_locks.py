"""Locks that all workers of a sweep share: exclusive, bounded, released by death."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.errors import UserError
from sweeps.storage import locks
from sweeps.storage.opening import lock
from tests.servers import PostgreSQL
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
KINDS = ["sqlite", "journal", "postgresql", "grpc"]

Storage = Callable[[str], str]


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """The address of a storage of a given kind; a lock needs no more of it."""
    kinds: dict[str, Callable[[], str]] = {
        "sqlite": lambda: f"sqlite:///{tmp_path / 'sweep.db'}",
        "journal": lambda: f"journal://{tmp_path / 'sweep.log'}",
        "postgresql": lambda: str(request.getfixturevalue("database")),
        "grpc": lambda: "grpc://127.0.0.1:1",
    }
    return lambda kind: kinds[kind]()


HOLD = """
import sys
from pathlib import Path
from sweeps.storage.opening import lock
url, name, fallback = sys.argv[1:]
with lock(url, name, Path(fallback)):
    print("held", flush=True)
    sys.stdin.readline()
"""

COUNT = """
import sys
from pathlib import Path
from sweeps.storage.opening import lock
url, fallback, counter = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    with lock(url, "count", fallback):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def worker(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip() or process.communicate()[1]


@contextmanager
def another_holds(url: str, name: str, fallback: Path) -> Iterator[subprocess.Popen[str]]:
    process = worker(HOLD, url, name, fallback)
    try:
        assert said(process) == "held"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_workers_that_count_together_lose_no_step(
    kind: str, storage: Storage, tmp_path: Path
) -> None:
    url, counter = storage(kind), tmp_path / "counter"
    counter.write_text("0")
    workers = [worker(COUNT, url, tmp_path / "fallback.lock", counter) for _ in range(3)]
    assert [said(process) for process in workers] == ["ready"] * 3
    for process in workers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in workers:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    assert counter.read_text() == "150"


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_of_a_killed_worker_is_free_again(
    kind: str, storage: Storage, tmp_path: Path
) -> None:
    url, fallback = storage(kind), tmp_path / "fallback.lock"
    with another_holds(url, "n", fallback) as process:
        process.send_signal(signal.SIGKILL)
        with lock(url, "n", fallback):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_waiting_for_a_lock_ends_with_an_error(
    kind: str, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCK_WAIT", 1)
    url, fallback = storage(kind), tmp_path / "fallback.lock"
    with another_holds(url, "n", fallback):
        with pytest.raises(UserError, match="within 1 s, but another one holds it") as caught:
            lock(url, "n", fallback).__enter__()
        assert "s3cret" not in str(caught.value)
    with lock(url, "n", fallback):
        pass


@pytest.mark.parametrize("kind", ["sqlite", "journal", "postgresql"])
def test_locks_of_different_names_do_not_wait_for_each_other(
    kind: str, storage: Storage, tmp_path: Path
) -> None:
    url = storage(kind)
    with (
        another_holds(url, "one/of these", tmp_path / "unused"),
        lock(url, "one of/these", tmp_path / "unused"),
        lock(url, "two", tmp_path / "unused"),
    ):
        pass
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_within_a_lock_passes_and_releases_it(
    kind: str, storage: Storage, tmp_path: Path
) -> None:
    url, fallback = storage(kind), tmp_path / "fallback.lock"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock(url, "n", fallback):
            raise ZeroDivisionError


@pytest.mark.parametrize("kind", KINDS)
def test_threads_of_one_worker_exclude_each_other(
    kind: str, storage: Storage, tmp_path: Path
) -> None:
    url, fallback, inside = storage(kind), tmp_path / "fallback.lock", [0, 0]

    def step() -> None:
        for _ in range(10):
            with lock(url, "n", fallback):
                inside[0] += 1
                inside[1] = max(inside)
                inside[0] -= 1

    threads = [threading.Thread(target=step) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert inside == [0, 1]


@pytest.mark.slow
def test_a_forked_child_leaves_its_parents_connection_alone(database: str, tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from sweeps.storage.server_locks import _engine
from sweeps.storage.opening import lock, open_storage

def backend():
    with lock(sys.argv[1], "n", Path("unused")):
        pass
    with _engine(sys.argv[1], os.getpid()).connect() as connection:
        return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()

storage = open_storage(sys.argv[1], Path("unused"))
mine = backend()
child = os.fork()
if child == 0:
    other = backend()
    del storage
    sys.exit(0 if other != mine else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert backend() == mine
assert storage.get_all_studies() == []
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, database],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_a_lock_can_be_taken_after_the_server_restarted(
    postgresql: PostgreSQL, database: str, tmp_path: Path
) -> None:
    with lock(database, "n", tmp_path / "unused"):
        postgresql.restart()
    with lock(database, "n", tmp_path / "unused"):
        pass


def test_a_process_started_within_a_lock_does_not_keep_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sweep.db'}"
    with lock(url, "n", tmp_path / "unused"):
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with lock(url, "n", tmp_path / "unused"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sleeper.communicate(b"\n")


def test_a_lock_in_a_missing_directory_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        lock("grpc://h:1", "n", tmp_path / "missing" / "x.lock").__enter__()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(descriptor: int, how: int) -> None:
        del descriptor, how
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"must be where files can be locked.*postgresql://") as no:
        lock(f"sqlite:///{tmp_path / 'sweep.db'}", "n", tmp_path / "unused").__enter__()
    assert "\n" not in str(no.value)
    monkeypatch.undo()
    with lock(f"sqlite:///{tmp_path / 'sweep.db'}", "n", tmp_path / "unused"):
        pass
