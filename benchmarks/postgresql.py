"""A PostgreSQL server for the benchmarks: the one of VAESWEEP_POSTGRESQL, else one of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/opt/postgresql*/bin", "/usr/pgsql-*/bin")


@contextmanager
def server() -> Iterator[str | None]:
    """The URL of a database to write to; None where there is no server and none can be started."""
    url = os.environ.get("VAESWEEP_POSTGRESQL")
    programs = None if url else binaries()
    if programs is None:
        yield url
        return
    directory = Path(tempfile.mkdtemp(prefix="vaesweep-postgresql-"))
    user = None
    if os.geteuid() == 0:  # as whom the server refuses to run
        user = "postgres"
        shutil.chown(directory, user)
    port = free_port()
    control = [f"{programs}/pg_ctl", "-D", f"{directory}/data", "-w"]
    try:
        run([f"{programs}/initdb", "-D", f"{directory}/data", "-A", "trust"], directory, user)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {directory}"
        run([*control, "-l", f"{directory}/log", "-o", options, "start"], directory, user)
        try:
            yield f"postgresql://{user or getpass.getuser()}@127.0.0.1:{port}/postgres"
        finally:
            run([*control, "-m", "immediate", "stop"], directory, user)
    finally:
        shutil.rmtree(directory)


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = (folder for place in _PLACES for folder in Path("/").glob(place[1:]))
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(command: list[str], directory: Path, user: str | None) -> None:
    """A command that must succeed."""
    subprocess.run(command, cwd=directory, user=user, stdout=subprocess.DEVNULL, check=True)
