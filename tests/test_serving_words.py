"""What the service says when it is started or asked in a way that it cannot use."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import PASSING, REFUSED, UserError, exit_status
from experiments.record.membership import records_below
from serving import app as command
from serving.api.service import create
from serving.api.settings import TOKEN, Settings, options, token
from serving.model import references
from serving.model.checkpoints import load
from serving.model.references import find_checkpoint
from tests.services import ask

# The command


def test_only_one_service_holds_an_address() -> None:
    with command._listen("127.0.0.1", 0, 8) as first:
        port = first.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        told = f"127.0.0.1:{port} gives: Address already in use; another --port, or 0"
        with pytest.raises(UserError, match=told):
            command._listen("127.0.0.1", port, 8)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 64])
def test_a_host_that_is_not_ours_is_told_another_host(host: str) -> None:
    with pytest.raises(UserError, match=r"gives: .*; --host 127\.0\.0\.1 is") as told:
        command._listen(host, 0, 8)
    assert "another --port" not in str(told.value)


@pytest.mark.parametrize("empty", ["", " "])
def test_no_checkpoint_is_not_any_checkpoint(
    empty: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parent)
    with pytest.raises(UserError, match=r"`--checkpoint` must name .*, but it is empty"):
        find_checkpoint(empty)


@pytest.mark.parametrize("name", ["", " ", ":", "/", "a//b:c", "a/b:"])
def test_no_artifact_is_not_asked_for(name: str) -> None:
    with pytest.raises(UserError, match="a W&B artifact is named ENTITY/PROJECT/NAME:ALIAS, but"):
        find_checkpoint(f"wandb:{name}")


def test_a_directory_of_everything_is_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tmp_path / str(number) / "more").mkdir(parents=True)
    monkeypatch.setattr(references, "_MOST_DIRECTORIES", 30)
    with pytest.raises(UserError, match=f"but {tmp_path} holds more than 30 directories"):
        find_checkpoint(str(tmp_path))
    assert list(records_below(tmp_path)) == []


def test_the_root_is_refused() -> None:
    with pytest.raises(UserError, match=r"`--checkpoint` must name|a sweep must be named by"):
        find_checkpoint("/")


def test_records_are_found_by_name_and_depth(tmp_path: Path) -> None:
    for name in ("b", "a", "a/x", "c/d", ".hidden"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "result.json").touch()
    found = [str(path.relative_to(tmp_path)) for path in records_below(tmp_path)]
    assert found == ["a", "a/x", "b", "c/d"]
    assert [path.name for path in records_below(tmp_path, 1)] == ["a", "b"]


@pytest.mark.parametrize("host", ["b\xfccher.example", "*.b\xfccher.example", "a,\u4f8b.example"])
def test_a_name_of_a_host_is_given_as_requests_have_it(host: str) -> None:
    with pytest.raises(UserError, match=r"`--hosts` must be names .*xn--bcher-kva"):
        options(["--checkpoint", "x", "--hosts", host])


@pytest.mark.parametrize("host", ["example.org:8132", "*.example.org:80", "::1"])
def test_a_name_of_a_host_has_no_port(host: str) -> None:
    with pytest.raises(UserError, match=r"`--hosts` must be names .* without a port, but got"):
        options(["--checkpoint", "x", "--hosts", host])


def test_two_hosts_are_given_as_the_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--hosts", "a.org", "--hosts", "b.org"], ["--hosts", "a.org,b.org"]):
        assert options(["--checkpoint", "x", *given]).hosts == ("a.org", "b.org")
    with pytest.raises(SystemExit):
        options(["--help"])
    told = capsys.readouterr().out
    assert "--hosts NAMES " in told
    assert "vae.example.org,*.example.org" in " ".join(told.split())
    assert "tuple" not in told
    assert "()" not in told
    assert "None" not in told


@pytest.mark.parametrize(
    "origin", ["x", "https://a.org/", "https://a.org/page", "https://A.org", "https://", "a.org:80"]
)
def test_what_can_never_be_an_origin_is_refused(origin: str) -> None:
    for given in (origin, f"https://b.org,{origin}"):
        with pytest.raises(UserError, match=r"`--cors` must be origins such as .*, but got"):
            options(["--checkpoint", "x", "--cors", given])


@pytest.mark.parametrize(
    "origin", ["*", "https://a.org", "http://localhost:8000", "http://[::1]:80", "app://x-y"]
)
def test_an_origin_is_taken(origin: str) -> None:
    assert options(["--checkpoint", "x", "--cors", origin]).cors == (origin,)


def test_help_says_what_one_client_may_take(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "requests that may wait, three quarters of them of one client" in told
    assert "Behind a proxy, the variable FORWARDED_ALLOW_IPS must name its address" in told


def test_an_empty_token_is_no_open_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(TOKEN, "")
    with pytest.raises(UserError, match=f"a token must not be empty, but that of {TOKEN} is"):
        token(None)
    empty = tmp_path / "token"
    empty.write_text("\n")
    with pytest.raises(UserError, match="a token must not be empty, but that of `--token-file`"):
        token(empty)
    monkeypatch.delenv(TOKEN)
    assert token(None) is None


def test_a_token_that_is_longer_than_a_header_may_be_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    for secret, ends in (("a" * 4096, "\n"), ("a" * 4096, "\r\n"), ("a" * 4096, "")):
        file.write_bytes((secret + ends).encode())
        assert token(file) == secret
    file.write_text("a" * 4097)
    with pytest.raises(UserError, match=r"at most 4096 bytes, but that of `--token-file` .* more"):
        token(file)
    file.write_text("a" * 4096 + "\nb")
    with pytest.raises(UserError, match="at most 4096 bytes"):
        token(file)
    monkeypatch.setenv(TOKEN, "a" * 4097)
    with pytest.raises(UserError, match=f"at most 4096 bytes, but that of {TOKEN} has more"):
        token(None)


def test_what_may_never_end_is_no_file_with_a_token(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody ever writes to it
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="`--token-file` must be a regular file, but"):
            token(path)


def test_what_another_program_writes_may_be_the_token() -> None:
    """As `--token-file <(program)` of a shell."""
    for folder in ("/dev/fd", "/proc/self/fd"):
        reading, writing = os.pipe()
        os.write(writing, b"secret\n")
        os.close(writing)
        try:
            assert token(Path(folder, str(reading))) == "secret"
        finally:
            os.close(reading)


def test_an_option_that_is_an_empty_path_is_refused() -> None:
    for given in (["--token-file="], ["--token-file", ""]):
        with pytest.raises(UserError, match=r"`--token-file` must .*, but got nothing"):
            options(["--checkpoint", "x", *given])


def test_a_storage_that_cannot_be_read_says_its_own_reason(tmp_path: Path) -> None:
    file = tmp_path / "empty.db"
    sqlite3.connect(file).close()
    file.touch()
    with pytest.raises(UserError, match="cannot be read: no such table") as told:
        find_checkpoint(f"sqlite:///{file}#study")
    assert exit_status(told.value) == REFUSED


def test_a_database_that_is_not_there_says_its_own_reason() -> None:
    pytest.importorskip("psycopg")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(
        UserError, match=r"database of a study must answer.*(?i:connection refused)"
    ) as told:
        find_checkpoint(f"postgresql://user:secret@127.0.0.1:{port}/db#study")
    assert exit_status(told.value) == PASSING
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ('FATAL: password authentication failed for user "u"', REFUSED),
        ('FATAL: database "d" does not exist', REFUSED),
        ("failed to resolve host 'h': [Errno -2] Name or service not known", REFUSED),
        ("failed to resolve host 'h': [Errno -3] Temporary failure in name resolution", PASSING),
        ("FATAL: the database system is starting up", PASSING),
    ],
)
def test_a_database_that_refuses_for_good_is_no_database_that_is_away(
    said: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    psycopg = pytest.importorskip("psycopg")

    def connect(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError(said)

    monkeypatch.setattr(psycopg, "connect", connect)
    with pytest.raises(UserError, match=re.escape(said)) as told:
        find_checkpoint("postgresql://u@h/d#study")
    assert exit_status(told.value) == status


# Requests


def test_prometheus_comes_by_address_and_no_page_from_elsewhere_by_its_name(trained: Path) -> None:
    app = create(load(trained), Settings(hosts=("vae.example.org",)))
    for host, expected in (
        ("10.0.0.7:8000", 200), ("[::1]:8000", 200), ("vae.example.org", 200),
        ("evil.example", 400), ("10.evil.example", 400), ("", 400),
    ):  # fmt: skip
        assert ask(app, "GET", "/metrics", headers={"Host": host}).status_code == expected
        assert ask(app, "GET", "/healthz", headers={"Host": host}).status_code == 200


def test_broken_json_is_told_where_and_why(trained: Path) -> None:
    app = create(load(trained), Settings())
    answer = ask(app, "POST", "/v1/generate", content=b'{"count": 4',
                 headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 422
    told = answer.json()["detail"]
    assert told == "the body must be JSON, but at character 11 of it: Expecting ',' delimiter"


def test_a_photo_that_is_text_is_told_how_to_send_one(trained: Path) -> None:
    app = create(load(trained), Settings())
    body = b'--x\r\nContent-Disposition: form-data; name="photos"\r\n\r\n1\r\n--x--\r\n'
    answer = ask(app, "POST", "/v1/encode", content=body,
                 headers={"Content-Type": "multipart/form-data; boundary=x"})  # fmt: skip
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "`photos` must be a photo with a filename: send a form: curl -F photos=@FILE"
    )


@pytest.mark.parametrize("more", [{}, {"content": b"x"}, {"files": {"x": b"1"}}, {"json": {}}])
def test_a_photo_that_is_missing_is_told_how_to_send_one(
    trained: Path, more: dict[str, Any]
) -> None:
    app = create(load(trained), Settings())
    told = ask(app, "POST", "/v1/encode", **more).json()["detail"]
    assert told == "`photos` must be a photo with a filename: send a form: curl -F photos=@FILE"
    first, second = ask(app, "POST", "/v1/interpolate", **more).json()["detail"].split("; ")
    assert first.endswith("curl -F first=@FILE")
    assert second.endswith("curl -F second=@FILE")


@pytest.mark.parametrize("kind", [{}, {"Content-Type": "application/x-www-form-urlencoded"}])
@pytest.mark.parametrize(("path", "content"), [("generate", b'{"count":1}'), ("decode", b"")])
def test_json_that_does_not_say_so_is_told_how_to_say_it(
    trained: Path, kind: dict[str, str], path: str, content: bytes
) -> None:
    app = create(load(trained), Settings())
    answer = ask(app, "POST", f"/v1/{path}", content=content, headers=kind)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the body must be JSON: send `Content-Type: application/json`"


def test_json_that_lacks_something_is_told_what(trained: Path) -> None:
    app = create(load(trained), Settings())
    told = ask(app, "POST", "/v1/decode", json={}).json()["detail"]
    assert told == "`latents`: Field required"


def test_what_a_record_says_wrong_is_logged_whole(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(trained, tmp_path / "trial")
    result = json.loads((copy / "result.json").read_text())
    result["parameters"]["data.fit"] = "../../x"
    result["packages"] = {"torch": [1]}
    (copy / "result.json").write_text(json.dumps(result))
    with caplog.at_level(logging.WARNING):
        create(load(copy), Settings())
    assert "`data.fit` is '../../x'" in caplog.text
    assert "should be a valid string" in caplog.text
