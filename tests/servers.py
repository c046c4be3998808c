"""Real storage servers for the tests, on loopback and in directories of their own."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE, wait_until


def missing(what: str) -> None:
    """Skip the test that needs a program, or let it fail where CI promises the program."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{what}, which CI must have")
    pytest.skip(what)


def free_port() -> int:
    """One that no outgoing connection is given, so that it stays free until it is taken."""
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass
class PostgreSQL:
    """A PostgreSQL server of the tests' own, with a password to guess."""

    directory: Path
    programs: Path
    port: int
    user: str = "sweeper"
    password: str = "s3cret/@:word"

    def url(self, database: str, password: str | None = None) -> str:
        from urllib.parse import quote

        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{self.user}:{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database's URL."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        log = self.directory / "log"
        options = [f"-p{self.port}", "-clisten_addresses=127.0.0.1", "-cfsync=off"]
        options += [f"-cunix_socket_directories={self.directory}", "-cmax_connections=200"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*_mortal(), self.programs / "postgres", "-D", self.directory / "data", *options],
                stdout=output,
                stderr=output,
                **_unprivileged(),
            )
        wait_until(self._answers, self.process, log.read_text)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop at once and drop all connections, without losing anything (SIGINT is "fast")."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres"), connect_timeout=PATIENCE).close()
            return True
        return False


def _mortal() -> list[str]:
    """Before a server's command: it ends when the tests are killed and cannot stop it."""
    return ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            account = pwd.getpwnam(name)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return {}


def _programs() -> Path | None:
    """The directory that holds both `initdb` and `postgres`."""
    candidates = [os.path.dirname(shutil.which("postgres") or "")]
    if shutil.which("pg_config"):
        found = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True)
        candidates.append(found.stdout.strip())
    candidates += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for candidate in filter(None, candidates):
        if all((Path(candidate) / name).exists() for name in ("initdb", "postgres")):
            return Path(candidate).resolve()
    return None


@contextmanager
def run_postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL server; the test is skipped where its programs are missing."""
    programs = _programs()
    if programs is None:
        missing("needs PostgreSQL's programs: apt-get install postgresql")
    assert programs is not None
    # Not below pytest's directory, which the server's account may not enter.
    directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
    server = PostgreSQL(directory, programs, free_port())
    try:
        _initialise(server)
        server.start()
        yield server
    finally:
        if hasattr(server, "process") and server.process.poll() is None:
            server.stop(signal.SIGQUIT)
        shutil.rmtree(directory)


def _initialise(server: PostgreSQL) -> None:
    account = _unprivileged()
    secret = server.directory / "password"
    secret.write_text(server.password)
    if account:
        for path in (server.directory, secret):
            os.chown(path, account["user"], account["group"])
    command = [str(server.programs / "initdb"), "-D", str(server.directory / "data"), "--no-sync"]
    command += ["-U", server.user, f"--pwfile={secret}", "-Ascram-sha-256", "--locale=C", "-EUTF8"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **account)
    assert done.returncode == 0, done.stderr


_PROXY = """
import sys, warnings
warnings.simplefilter("ignore")
from optuna.storages import RDBStorage, get_storage, run_grpc_proxy_server
run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@dataclass
class Proxy:
    """Optuna's gRPC proxy before a SQLite file."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = self.directory / "proxy.log"
        database = f"sqlite:///{self.directory / 'proxied.db'}"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*_mortal(), sys.executable, "-c", _PROXY, database, str(self.port)],
                stdout=output,
                stderr=output,
            )
        wait_until(self._answers, self.process, log.read_text)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def _answers(self) -> bool:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE),
        ):
            return True
        return False


@contextmanager
def run_proxy(directory: Path) -> Iterator[Proxy]:
    proxy = Proxy(directory, free_port())
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def fresh_name() -> str:
    return f"t_{secrets.token_hex(6)}"
