"""What the command that starts the service says when it cannot."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serving import app
from tests.services import ROOT, running
from tests.waiting import PATIENCE


@pytest.mark.parametrize("package", ["uvicorn", "fastapi", "prometheus_client"])
def test_a_missing_package_is_told_with_its_remedy(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith("serving.") and n != "serving.app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets, for its own process
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", ["serving.app", "--checkpoint", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert "pip install --editable '.[serve]'" in capsys.readouterr().err


def test_an_address_that_is_taken_or_not_ours_is_told_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for host, gives in (
            ("127.0.0.1", f"127.0.0.1:{port} gives: Address already in use"),
            ("192.0.2.1", f"192.0.2.1:{port} gives: Cannot assign requested address"),
            ("no.such.host.invalid", f"no.such.host.invalid:{port} gives: "),
            ("a" * 64, f"{'a' * 64}:{port} gives: "),
        ):
            # Which the command sets, for its own process.
            monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
            command = ["serving.app", "--checkpoint", "nowhere", "--host", host]
            monkeypatch.setattr(sys, "argv", [*command, "--port", str(port)])
            with pytest.raises(SystemExit) as ended:
                app.main()
            assert ended.value.code == 2
            assert gives in capsys.readouterr().err


_SIGNALLED = """
import signal, socket
from serving.api.settings import Settings
from serving.server import prepare

async def app(scope, receive, send):
    raise NotImplementedError

server = prepare(app, Settings())
signal.raise_signal(signal.{})
server.run(sockets=[socket.create_server(("127.0.0.1", 0))])
print("ended")
"""


@pytest.mark.parametrize("sent", ["SIGTERM", "SIGINT"])
def test_a_signal_before_the_server_runs_is_not_lost(sent: str) -> None:
    """The address is told then, and whoever waits for it may end the service at once."""
    command = [sys.executable, "-c", _SIGNALLED.format(sent)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "ended\n")


@pytest.mark.slow
@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_the_address_is_told_and_answers(trained: Path, tmp_path: Path, host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 on loopback")
    checkpoint = trained / "checkpoints" / "best.ckpt"
    command = [sys.executable, "-m", "serving.app", "--checkpoint", str(checkpoint)]
    command += ["--host", host, "--port", "0", "--threads", "1"]
    with running(command, tmp_path, {}) as service:
        assert httpx.get(f"{service.url}/healthz", trust_env=False).text == "ok"


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
