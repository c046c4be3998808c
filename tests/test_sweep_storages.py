"""Storages of sweeps: what opens, what is refused, and that no message holds a password."""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from experiments.errors import PASSING, REFUSED, UserError, exit_status, is_disk_full
from sweeps.storage import answers, locks, rdb
from sweeps.storage.opening import dashboard_command, normalised, open_storage
from sweeps.storage.retry import retry
from tests.servers import PostgreSQL, Proxy, silent_server
from tests.waiting import PATIENCE
from tests.words import trusting

ROOT = Path(__file__).parents[1]
WORD = "hunter2"

Address = Callable[[str], Any]


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """A new storage of a given kind, as a user would write it."""

    def journal_mapping() -> dict[str, Any]:
        backend = {"_target_": "optuna.storages.journal.JournalFileBackend"}
        backend["file_path"] = str(tmp_path / "mapped.log")
        return {"_target_": "optuna.storages.JournalStorage", "log_storage": backend}

    kinds: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "sqlite": lambda: f"sqlite:///{tmp_path / 'own.db'}",
        "postgresql": lambda: request.getfixturevalue("database"),
        "journal": lambda: request.getfixturevalue("journal"),
        "journal path": lambda: str(tmp_path / "plain.journal"),
        "grpc": lambda: request.getfixturevalue("proxy").url,
        "mapping of a journal": journal_mapping,
        "mapping of a database": lambda: {
            "_target_": "optuna.storages.RDBStorage",
            "url": f"sqlite:///{tmp_path / 'mapped.db'}",
        },
        "config": lambda: OmegaConf.create(journal_mapping()),
    }
    return lambda kind: kinds[kind]()


KINDS = ["nothing", "sqlite", "postgresql", "journal", "journal path", "grpc"]
KINDS += ["mapping of a journal", "mapping of a database", "config"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_elsewhere_opens_the_same_storage_from_plain_values(
    kind: str, address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, default = address(kind), tmp_path / "deep" / "er" / "sweep.db"
    study = optuna.create_study(storage=open_storage(storage, default), direction="maximize")
    study.tell(study.ask(), 0.5)

    sent = json.loads(json.dumps(normalised(storage, default)))
    monkeypatch.chdir("/")
    found = optuna.load_study(
        study_name=study.study_name, storage=open_storage(sent, Path("unused.db"))
    )
    assert found.best_value == 0.5
    assert not Path("unused.db").exists()


@pytest.mark.parametrize("written", ["sqlite:///x.db", "journal://x.log", "./x.log", "x.journal"])
def test_relative_paths_become_absolute_where_the_sweep_starts(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"//{tmp_path}/x." in str(normalised(written, Path("default.db")))


def test_a_path_within_a_mapping_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mapping = {"_target_": "optuna.storages.RDBStorage", "url": "sqlite:///x.db"}
    assert normalised(mapping, Path("d.db")) == mapping | {"url": f"sqlite:///{tmp_path}/x.db"}


@pytest.mark.slow
def test_databases_get_the_heartbeat_that_was_asked_for(address: Address, tmp_path: Path) -> None:
    for kind in ("nothing", "mapping of a database", "postgresql"):
        opened = open_storage(address(kind), tmp_path / "d.db", heartbeat_interval=7)
        assert isinstance(opened, optuna.storages.RDBStorage)
        assert opened.heartbeat_interval == 7
    open_storage(address("journal"), tmp_path / "d.db", heartbeat_interval=7)


def test_the_users_own_heartbeat_and_callback_come_first(tmp_path: Path) -> None:
    storage = {
        "_target_": "optuna.storages.RDBStorage",
        "url": f"sqlite:///{tmp_path / 'd.db'}",
        "heartbeat_interval": 3,
        "heartbeat_stale_trial_callback": {
            "_target_": "optuna.storages.RetryHeartbeatStaleTrialCallback",
            "max_retry": 2,
        },
    }
    opened = open_storage(storage, tmp_path / "unused.db", heartbeat_interval=7)
    assert isinstance(opened, optuna.storages.RDBStorage)
    assert opened.heartbeat_interval == 3
    callback = opened.heartbeat_stale_trial_callback
    assert isinstance(callback, optuna.storages.RetryHeartbeatStaleTrialCallback)


def journal_mode(path: Path) -> str:
    connection = sqlite3.connect(path)
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.close()
    return str(mode)


@pytest.mark.parametrize(("kind", "mode"), [("ext4", "wal"), ("nfs4", "delete"), ("", "delete")])
def test_the_write_ahead_log_is_for_file_systems_of_one_machine(
    kind: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rdb, "filesystem", lambda path: kind)
    storage: Any = open_storage(None, tmp_path / "d.db")
    assert journal_mode(tmp_path / "d.db") == mode
    # Only with a log is the file whole after a power cut if nobody waits for the disk.
    with storage.engine.connect() as connection:
        waits = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    assert waits == {"wal": 1, "delete": 2}[mode]


def test_only_beginnings_and_ends_of_trials_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []

    def fsync(descriptor: int) -> None:
        waits.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    study = optuna.create_study(storage=open_storage(None, tmp_path / "d.db"))
    monkeypatch.setattr(os, "fsync", fsync)
    trial = study.ask()
    assert waits == ["d.db-wal"]
    trial.report(1.0, 1)
    trial.set_user_attr("lease", 1)
    assert len(waits) == 1
    study.tell(trial, 1.0)
    assert waits == ["d.db-wal"] * 2


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount() -> None:
    assert locks.filesystem(Path("/proc/self")) == "proc"
    assert locks.filesystem(Path("/")) not in {"", "proc"}


OPEN = """
import sys
from pathlib import Path
from sweeps.storage.opening import open_storage
from sweeps.storage.retry import retry
import optuna
storage = open_storage(sys.argv[1], Path("unused.db"))
print("ready", flush=True)
sys.stdin.readline()
study = optuna.create_study(storage=storage, study_name="shared", load_if_exists=True)
for _ in range(5):
    trial = study.ask()
    trial.report(1.0, 0)
    trial.set_user_attr("a", 1)
    study.tell(trial, 1.0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "journal"])
def test_workers_that_meet_at_a_new_storage_lose_no_trial(kind: str, address: Address) -> None:
    url = address(kind)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    for worker in workers:
        _, said = worker.communicate("go\n", timeout=PATIENCE)
        assert worker.returncode == 0, said
    study = optuna.load_study(study_name="shared", storage=open_storage(url, Path("unused.db")))
    assert sorted(trial.number for trial in study.trials) == list(range(20))


def refused(storage: Any, *secrets: str, passes: bool = False) -> str:
    """The message that a storage is refused with, without its password."""
    with pytest.raises(UserError) as caught:
        open_storage(storage, Path("unused.db"))
    assert exit_status(caught.value) == (PASSING if passes else REFUSED)
    shown = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in secrets if secret in shown]
    return str(caught.value)


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("sqlite:////no/such/directory/d.db", "mkdir -p /no/such/directory"),
        ("journal:///no/such/directory/d.log", "mkdir -p /no/such/directory"),
        ("sqlite:////proc/self/d.db", "unable to open database file"),
        ("journal:///proc/self/d.log", "writable"),
        ("sqlite:////etc", "unable to open database file"),
        ("sqlite:///file:/etc/hostname?mode=ro&uri=true", "DatabaseError"),
        ("sqlite:///:memory:", "several processes share"),
        ("sqlite://", "several processes share"),
        ({"_target_": "optuna.storages.InMemoryStorage"}, "several processes share"),
        (f"postgresql://u:{WORD}@127.0.0.1:1/d", "Connection refused"),
        (f"postgres://u:{WORD}@127.0.0.1:1/d", "Connection refused"),
        (f"postgresql://u@127.0.0.1:1/d?password={WORD}", "Connection refused"),
        (f"postgresql://u:{WORD}%40%2F@127.0.0.1:1/d", "Connection refused"),
        (f"postgresql://u:{WORD}@localhost:none/d", "postgresql://user:password@host"),
        (f"postgresql://u:{WORD}/a@127.0.0.1:1/d", "Connection refused"),
        (f"postgresql://u:{WORD}@127.0.0.1:1", "postgresql://user:password@host"),
        (f"postgresql+nodriver://u:{WORD}@127.0.0.1/d", "driver"),
        (f"oracle://u:{WORD}@127.0.0.1/d", "must be sqlite:///"),
        (f"postgresql:/u:{WORD}@127.0.0.1/d", "must be sqlite:///"),
        ("sweep", "must be sqlite:///"),
        ("grpc://127.0.0.1:1", "Connection refused"),
        ("grpc://127.0.0.1:none", "grpc://127.0.0.1:"),
        (
            {
                "_target_": "optuna.storages.RDBStorage",
                "url": "postgresql://u@127.0.0.1:1/d",
                "engine_kwargs": {"connect_args": {"password": WORD}},
            },
            "Connection refused",
        ),
        ({"_target_": "optuna.storages.RDBStorage", "url": f"x://u:{WORD}@h/d"}, "driver"),
        ({"url": f"postgresql://u:{WORD}@127.0.0.1:1/d"}, "must be sqlite:///"),
        ({"_target_": "optuna.storages.RetryHeartbeatStaleTrialCallback"}, "BaseStorage"),
        ({"_target_": "optuna.samplers.TPESampler"}, "VAESWEEP_TRUST"),
    ],
    ids=str,
)
def test_a_storage_that_cannot_be_used_is_refused_with_the_remedy(storage: Any, said: str) -> None:
    assert said in refused(storage, WORD, passes=said == "Connection refused")


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
@pytest.mark.parametrize(
    ("number", "said", "passes"),
    [
        (socket.EAI_NONAME, "Name or service not known", False),
        (socket.EAI_NONAME, "nodename nor servname provided, or not known", False),
        (socket.EAI_AGAIN, "Temporary failure in name resolution", True),
    ],
)
def test_a_host_that_nobody_knows_is_a_mistake_and_a_resolver_that_is_away_is_not(
    scheme: str, number: int, said: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: Any, **__: Any) -> None:
        raise socket.gaierror(number, said)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert said in refused(f"{scheme}://u@mistyped.example/d", passes=passes)


def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("psycopg", "psycopg2", "pymysql", "MySQLdb"):
        monkeypatch.setitem(sys.modules, module, None)
    for scheme, extra in (("postgresql", "postgresql"), ("mysql", "mysql"), ("mariadb", "mysql")):
        said = refused(f"{scheme}://u:{WORD}@127.0.0.1:1/d", WORD)
        assert f"pip install --editable '.[{extra}]'" in said
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert "pip install --editable '.[grpc]'" in refused("grpc://127.0.0.1:1")


@pytest.mark.filterwarnings("ignore:.*psycopg.Connection:ResourceWarning")
def test_tables_that_another_program_makes_at_the_same_moment_are_taken(
    postgresql: PostgreSQL, database: str
) -> None:
    """Optuna's dashboard, which knows no lock of ours."""
    from concurrent.futures import ThreadPoolExecutor

    from optuna.storages._rdb.models import BaseModel
    from sqlalchemy import create_engine

    engine = create_engine(database)
    with engine.connect() as dashboard, ThreadPoolExecutor(1) as pool:
        BaseModel.metadata.create_all(dashboard)
        opened = pool.submit(open_storage, database, Path("unused.db"))
        while not (  # until it waits for what the dashboard has begun
            opened.done()
            or postgresql.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        ):
            time.sleep(0.02)
        dashboard.commit()
        assert opened.result(PATIENCE).get_all_studies() == []
    engine.dispose()
    gc.collect()  # what Optuna's failed constructor left open


def test_a_journals_line_that_was_cut_off_takes_nothing_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a writer that was killed, or a disk that was full."""
    path = tmp_path / "sweep.log"
    study = optuna.create_study(
        study_name="a", storage=open_storage(f"journal://{path}", Path("unused.db"))
    )
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"88')
    study.set_user_attr("a", 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            study.set_user_attr("b", 2)
    study.set_user_attr("c", 3)
    again = open_storage(f"journal://{path}", Path("unused.db"))
    attributes = optuna.load_study(study_name="a", storage=again).user_attrs
    assert attributes == {"a": 1, "c": 3}


def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    for name, scheme in (("d.db", "sqlite"), ("d.log", "journal")):
        path = tmp_path / name
        path.write_text("something else\nof the user's\n")
        refused(f"{scheme}:///{path}")
        assert path.read_text() == "something else\nof the user's\n"


@pytest.mark.parametrize("make", ["wrong password", "missing database", "unknown user"])
def test_a_server_that_refuses_is_quoted_without_the_password(
    make: str, postgresql: PostgreSQL
) -> None:
    url = {
        "wrong password": postgresql.url("postgres", f"{WORD}@/:"),
        "missing database": postgresql.url("missing"),
        "unknown user": postgresql.url("postgres").replace("sweeper", "stranger"),
    }[make]
    said = refused(url, WORD, postgresql.password)
    assert ("does not exist" if make == "missing database" else "password auth") in said
    assert f"127.0.0.1:{postgresql.port}" in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*psycopg.Connection:ResourceWarning")
def test_a_database_without_the_right_to_make_tables_is_refused(
    postgresql: PostgreSQL, database: str
) -> None:
    postgresql.execute(f"CREATE ROLE reader LOGIN PASSWORD '{WORD}'")
    url = database.replace("sweeper", "reader").replace("s3cret%2F%40%3Aword", WORD)
    assert "permission denied" in refused(url, WORD)
    gc.collect()  # what Optuna's failed constructor left open


@pytest.mark.slow
@pytest.mark.parametrize("url", ["postgresql://u:{0}@127.0.0.1:{1}/d", "grpc://127.0.0.1:{1}"])
def test_a_server_that_accepts_and_says_nothing_is_refused_in_time(url: str) -> None:
    with silent_server() as port:
        refused(url.format(WORD, port), WORD, passes=True)


def test_a_mapping_runs_no_code_that_nobody_trusts(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    attack = {"_target_": "os.mkdir", "path": str(mark)}
    storages: list[Any] = [
        attack,
        attack | {"_target_": "optuna.storages._rdb.storage.os.mkdir"},
        {"_target_": "optuna.storages.JournalStorage", "log_storage": attack},
        {"_target_": "optuna.storages.RDBStorage", "url": "sqlite:////tmp/d.db", "x": attack},
    ]
    for storage in storages:
        refused(storage)
        assert not mark.exists()


def test_a_class_of_a_trusted_package_may_be_a_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_storages.py").write_text(
        "from optuna.storages import RDBStorage\n"
        "class Own(RDBStorage):\n"
        "    def __init__(self, path): super().__init__('sqlite:///' + path)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    storage = {"_target_": "my_storages.Own", "path": str(tmp_path / "d.db")}
    assert "VAESWEEP_TRUST" in refused(storage)
    trusting(monkeypatch, "others", "my_storages")
    assert type(open_storage(storage, tmp_path / "unused.db")).__name__ == "Own"


@pytest.mark.slow
def test_a_study_goes_on_after_its_database_was_restarted(
    postgresql: PostgreSQL, database: str
) -> None:
    study = optuna.create_study(storage=open_storage(database, Path("unused.db")))
    postgresql.stop()
    asking = threading.Thread(target=lambda: retry(lambda: study.set_user_attr("asked", 1)))
    asking.start()
    postgresql.start()
    asking.join(timeout=PATIENCE)
    assert study.user_attrs == {"asked": 1}


@pytest.mark.slow
def test_a_study_goes_on_after_its_proxy_was_restarted(proxy: Proxy) -> None:
    study = optuna.create_study(storage=open_storage(proxy.url, Path("unused.db")))
    proxy.stop()
    asking = threading.Thread(target=lambda: retry(lambda: study.set_user_attr("asked", 1)))
    asking.start()
    proxy.start()
    asking.join(timeout=PATIENCE)
    assert retry(lambda: study.user_attrs) == {"asked": 1}


@pytest.mark.parametrize(
    ("storage", "command"),
    [
        ("sqlite:////a b/d.db", "optuna-dashboard 'sqlite:////a b/d.db'"),
        ("journal:///a/d.log", "optuna-dashboard /a/d.log"),
        ("postgresql+psycopg://u@h/d", "optuna-dashboard postgresql+psycopg://u@h/d"),
        (
            f"postgresql://u:{WORD}@h:1/d",
            'PGPASSWORD="$PGPASSWORD" optuna-dashboard postgresql+psycopg://u@h:1/d',
        ),
        (
            {
                "_target_": "optuna.storages.RDBStorage",
                "url": f"mysql+pymysql://u:{WORD}@h/d",
            },
            'optuna-dashboard "mysql+pymysql://u:$PASSWORD@h/d"',
        ),
        ("grpc://h:1", "optuna-dashboard ADDRESS (of the database behind grpc://h:1)"),
    ],
    ids=str,
)
def test_the_dashboards_command_holds_no_password(storage: Any, command: str) -> None:
    assert dashboard_command(storage) == command


def test_a_full_disk_below_sqlite_is_told_as_such_and_may_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that may not grow is to SQLite what a disk is that has no room."""
    engine = create_engine(f"sqlite:///{tmp_path / 'study.db'}")

    def fill() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 2")
            connection.exec_driver_sql("CREATE TABLE a AS SELECT zeroblob(100000)")

    with pytest.raises(OperationalError) as caught:
        retry(fill, window=0.0)
    engine.dispose()
    assert "the storage is away (database or disk is full); trying again" in caplog.text
    assert is_disk_full(caught.value)
    error = answers.refused(caught.value, None)
    assert re.search("answered OperationalError: database or disk is full; make room$", str(error))
    assert exit_status(error) == PASSING
