"""W&B's mode without a client, and runs by the real client, on this machine only."""

from __future__ import annotations

import gc
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.errors import UserError
from experiments.tracking.wandb import run as wandb_run
from experiments.tracking.wandb.mode import Mode
from experiments.tracking.wandb.run import choose_mode, describe, finish, log_picture, sync_command
from tests.servers import free_port

wandb = pytest.importorskip("wandb")

KEY = "a" * 40
OFFLINE = Mode("offline", "the test says so")


@pytest.fixture(autouse=True)
def _isolated(wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home, working directory and environment without any W&B, proxy or netrc of the user's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    return free_port()


class Stub:
    """An HTTP server that answers the client's requests by status code, and keeps them."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.after_start: int | None = None  # status of what is not the start of a run
        self.requests: list[bytes] = []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stub.requests.append(body)
                starts = b"UpsertBucket" in body or b"CoreWeave" in body
                status = stub.status if starts else stub.after_start or stub.status
                answer = b'{"data": {}}' if status == 200 else b'{"errors": [{"message": "no!"}]}'
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(200)
    thread = threading.Thread(target=server.server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()


def inspect(directory: str | Path, *options: str) -> str:
    """What the client's own reader finds in a run's file."""
    (file,) = Path(directory).glob("run-*.wandb")
    tool = Path(sys.executable).with_name("wandb")
    command = [str(tool), "leet", "inspect", "--json", *options, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def summary(directory: str | Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(inspect(directory, "--summary"))
    return values


def records(directory: str | Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in inspect(directory).splitlines()]
    return [line[kind] for line in lines if line["type"] == kind]


# The mode


def test_without_a_key_runs_are_offline_and_the_client_is_not_even_imported() -> None:
    code = (
        "import sys; from experiments.tracking.wandb.run import choose_mode; mode = choose_mode(); "
        "print(mode.mode, sorted({'wandb', 'torch', 'pytorch_lightning'} & set(sys.modules)))"
    )
    here = Path(__file__).parents[1]
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here
    )
    assert answer.stdout.strip() == "offline []"
    assert "no API key" in choose_mode({}).reason


def test_a_key_and_a_server_that_accepts_a_connection_are_online(listening: int) -> None:
    env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{listening}"}
    assert choose_mode(env).mode == "online"


def test_a_closed_port_is_offline(closed: int) -> None:
    env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{closed}"}
    assert choose_mode(env) == Mode("offline", f"127.0.0.1:{closed} refuses the connection")


def test_a_name_server_that_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "https://wandb.example"}
    mode = choose_mode(env, timeout=0.05)
    released.set()
    assert mode == Mode("offline", "wandb.example:443 does not answer within 0.05 s")


def test_an_unknown_name_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://wandb.example:8080"}
    assert choose_mode(env) == Mode("offline", "wandb.example:8080 is not known by that name")


@pytest.mark.parametrize(
    ("value", "mode"),
    [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled"), ("online", "online")],
)
def test_the_users_mode_wins(value: str, mode: str, closed: int) -> None:
    url = f"http://127.0.0.1:{closed}"
    env = {"WANDB_MODE": value, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}
    assert choose_mode(env).mode == mode


def test_online_without_a_key_is_offline_rather_than_a_prompt() -> None:
    mode = choose_mode({"WANDB_MODE": "online"})
    assert mode.mode == "offline"
    assert "no API key" in mode.reason


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"WANDB_MODE": "sometimes"}, "must be one of online, .* but got 'sometimes'"),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "wandb.example"}, r"http\(s\)://HOST.*'wandb"),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://a:b"}, r"http\(s\)://HOST.*'http://a:b'"),
    ],
)
def test_a_malformed_mode_or_address_is_refused(env: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_mode(env)


def test_a_missing_client_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install wandb, or logger=csv"):
        choose_mode({})


@pytest.mark.parametrize("name", [".netrc", "_netrc"])
def test_a_key_in_netrc_counts_for_its_server_only(name: str, listening: int) -> None:
    env = {"WANDB_BASE_URL": f"http://127.0.0.1:{listening}"}
    netrc = Path.home() / name
    netrc.write_text(f"machine 127.0.0.1:{listening}\n  login user\n  password {KEY}\n")
    assert choose_mode(env).mode == "online"
    netrc.write_text(f"machine elsewhere.example\n  login user\n  password {KEY}\n")
    assert choose_mode(env).mode == "offline"
    netrc.write_text("machine what is this")
    assert choose_mode(env).mode == "offline"


def test_netrc_may_be_elsewhere(listening: int, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"machine 127.0.0.1:{listening} login user password {KEY}")
    env = {"WANDB_BASE_URL": f"http://127.0.0.1:{listening}", "NETRC": str(path)}
    assert choose_mode(env).mode == "online"


def test_a_key_stored_for_wandb_ai_counts_for_the_default_server(listening: int) -> None:
    """The client's default server answers here through a proxy, so that nothing leaves."""
    env = {"HTTPS_PROXY": f"http://127.0.0.1:{listening}"}
    assert choose_mode(env).mode == "offline"
    (Path.home() / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}")
    assert choose_mode(env).mode == "online"


def test_settings_files_give_server_key_and_mode_and_the_nearest_wins(listening: int) -> None:
    for folder in (Path.home() / ".config" / "wandb", Path("wandb")):
        folder.mkdir(parents=True)
    url = f"http://127.0.0.1:{listening}"
    far = Path.home() / ".config" / "wandb" / "settings"
    far.write_text(f"[default]\nbase_url = {url}\napi_key = {KEY}\nmode = online\n")
    assert choose_mode({}).mode == "online"
    Path("wandb", "settings").write_text("[default]\nmode = offline\n")
    assert choose_mode({}) == Mode("offline", "its mode is set to offline")


def test_a_proxy_is_what_must_answer_unless_the_server_is_excluded(
    listening: int, closed: int
) -> None:
    env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "https://wandb.invalid"}
    open_proxy, closed_proxy = (f"127.0.0.1:{port}" for port in (listening, closed))
    assert choose_mode(env | {"HTTPS_PROXY": open_proxy}).mode == "online"
    assert choose_mode(env | {"https_proxy": f"socks5://{open_proxy}"}).mode == "online"
    mode = choose_mode(env | {"HTTPS_PROXY": f"http://user:secret@{closed_proxy}"})
    assert mode == Mode("offline", f"{closed_proxy} refuses the connection")
    direct = choose_mode(env | {"HTTPS_PROXY": open_proxy, "NO_PROXY": ".invalid"}, timeout=0.2)
    assert direct.reason.startswith("wandb.invalid:443")
    local = env | {"WANDB_BASE_URL": f"http://localhost:{closed}", "HTTP_PROXY": open_proxy}
    assert choose_mode(local).reason == f"localhost:{closed} refuses the connection"


def test_a_malformed_proxy_is_refused_without_showing_its_password() -> None:
    env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "https://wandb.invalid"}
    with pytest.raises(UserError, match="HTTPS_PROXY") as caught:
        choose_mode(env | {"HTTPS_PROXY": "gopher://user:secret@host:70"})
    assert "secret" not in str(caught.value)


# Runs


def start(directory: Path, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "project": "cats",
        "entity": None,
        "name": "a trial",
        "group": "a sweep",
        "tags": ["mse"],
        "config": {},
        "objectives": {"psnr": "maximize"},
        "mode": OFFLINE,
    }
    return wandb_run.start(directory, **defaults | options)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was said to the user so far."""
    caplog.set_level("INFO", "experiments")

    def said() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.name.startswith("experiments")]

    return said


Lines = Callable[[], list[str]]


@pytest.mark.slow
def test_an_offline_run_holds_what_was_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], lines: Lines
) -> None:
    logger = start(
        tmp_path / "a record",
        config={"lr": 1e-3, "loss": {"name": "mse", "options": [1, None, True]}},
        name="trial-3",
        group="sweep-1",
        tags=["mse", "cats"],
        objectives={"psnr": "maximize", "l1": "minimize"},
    )
    for step, (psnr, l1) in enumerate([(10.0, 0.3), (12.0, 0.1), (11.0, 0.2)]):
        logger.log_metrics({"val/psnr": psnr, "val/l1": l1}, step * 50)
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[..., 0] = 200
    log_picture(logger, "samples", picture, 100)
    about = describe(logger)
    finish(logger, status="completed", summary={"final/test/psnr": 11.5})

    directory = Path(about["directory"])
    assert (about["mode"], about["url"]) == ("offline", "")
    assert directory.is_relative_to(tmp_path / "a record" / "wandb")
    relative = directory.relative_to(tmp_path)
    assert lines() == [f"W&B is offline: the test says so; later: wandb sync '{relative}'"]
    values = summary(directory)
    assert values["config"] == {"lr": 1e-3, "loss": {"name": "mse", "options": [1, None, True]}}
    assert (values["project"], values["name"]) == ("cats", "trial-3")
    assert values["tags"] == ["mse", "cats"]
    assert values["run_id"] == about["id"]
    assert (values["state"], values["exit_code"]) == ("finished", 0)
    assert values["summary"]["val/psnr"] == {"max": 12}
    assert values["summary"]["val/l1"] == {"min": 0.1}
    assert values["summary"]["status"] == "completed"
    assert values["summary"]["final/test/psnr"] == 11.5
    assert records(directory, "run")[0]["run_group"] == "sweep-1"
    rows = [row["item"] for row in records(directory, "history") if "val/psnr" in row["item"]]
    found = [(row["trainer/global_step"], row["val/psnr"]) for row in rows]
    assert found == [(0, 10), (50, 12), (100, 11)]
    stored = directory / "files" / values["summary"]["samples"]["path"]
    assert (np.asarray(Image.open(stored)) == picture).all()
    out, err = capfd.readouterr()
    assert out + err == ""


@pytest.mark.slow
def test_trials_in_one_process_keep_to_their_own_runs(tmp_path: Path) -> None:
    before = dict(os.environ)
    directories = []
    for trial, status in enumerate(("completed", "pruned", "failed", "interrupted")):
        logger = start(tmp_path / str(trial), config={"trial": trial})
        assert wandb.run is None
        logger.log_metrics({"loss": float(trial)}, 0)
        directories.append(describe(logger)["directory"])
        finish(logger, status=status, reason="why" if trial else None)
        finish(logger, status="completed")  # a second end changes nothing
    found = [summary(directory) for directory in directories]
    assert [run["config"]["trial"] for run in found] == [0, 1, 2, 3]
    assert [run["summary"]["loss"] for run in found] == [0, 1, 2, 3]
    assert [run["exit_code"] for run in found] == [0, 0, 1, 255]
    statuses = [run["summary"]["status"] for run in found]
    assert statuses == ["completed", "pruned", "failed", "interrupted"]
    assert [run["summary"].get("reason") for run in found] == [None, "why", "why", "why"]
    assert len({run["run_id"] for run in found}) == 4
    changed = {name for name in os.environ if os.environ[name] != before.get(name)}
    assert {name for name in changed if name.startswith("WANDB_")} <= {"WANDB_SERVICE"}


def test_a_disabled_run_writes_nothing(tmp_path: Path, lines: Lines) -> None:
    logger = start(tmp_path / "t", mode=choose_mode({"WANDB_MODE": "disabled"}))
    logger.log_metrics({"loss": 1.0}, 0)
    log_picture(logger, "samples", np.zeros((4, 4, 3), np.uint8), 0)
    assert describe(logger)["mode"] == "disabled"
    finish(logger, status="completed")
    assert lines() == ["W&B is disabled: its mode is set to disabled"]
    assert not list(tmp_path.glob("t/**/*.wandb"))


def test_the_users_project_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    logger = start(tmp_path)
    assert describe(logger)["path"].split("/")[-2] == "mine"
    finish(logger, status="completed")


@pytest.mark.slow
def test_a_server_that_never_answers_costs_one_timeout_then_runs_are_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: int, lines: Lines
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening}")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    assert choose_mode().mode == "online"
    starts = []
    init = wandb.init

    def counted(**options: Any) -> Any:
        starts.append(options["settings"].mode)
        return init(**options)

    monkeypatch.setattr(wandb, "init", counted)
    for trial in ("first", "second"):
        logger = start(tmp_path / trial, mode=None, run_id=trial)
        logger.log_metrics({"loss": 1.0}, 0)
        about = describe(logger)
        finish(logger, status="completed")
        assert (about["mode"], about["id"]) == ("offline", trial)
        assert not list((tmp_path / trial / "wandb").glob("run-*"))
        assert list(Path(about["directory"]).glob("*.wandb"))
    assert starts == ["online", "offline", "offline"]
    assert len(lines()) == 2
    for line in lines():
        assert line.startswith("W&B is offline: it could not start online (")


def test_a_refused_key_is_offline(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stub: Stub,
    capfd: pytest.CaptureFixture[str],
    lines: Lines,
) -> None:
    stub.status = 401
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", stub.url)
    logger = start(tmp_path, mode=None)
    assert describe(logger)["mode"] == "offline"
    finish(logger, status="completed")
    assert any(b"UpsertBucket" in body for body in stub.requests)
    (line,) = lines()
    assert line.startswith("W&B is offline: it could not start online (no!); later: wandb sync")
    out, err = capfd.readouterr()
    assert out + err == ""


def test_a_malformed_key_is_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: int, lines: Lines
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "brief")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening}")
    logger = start(tmp_path, mode=None)
    assert describe(logger)["mode"] == "offline"
    finish(logger, status="completed")
    assert "WANDB_API_KEY invalid" in lines()[0]
    assert "brief" not in lines()[0]


@pytest.mark.slow
def test_a_server_that_stops_taking_data_does_not_hold_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Stub, lines: Lines
) -> None:
    stub.after_start = 503
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", stub.url)
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    logger = start(tmp_path / "t", mode=None)
    about = describe(logger)
    assert about["mode"] == "online"
    logger.log_metrics({"loss": 1.0}, 0)
    finish(logger, status="completed")
    relative = Path(about["directory"]).relative_to(tmp_path)
    assert lines() == [
        f"W&B is online: run {about['id']}",
        "W&B: the server did not take everything in time; for the rest: "
        f"wandb sync --include-online {relative}",
    ]
    assert summary(about["directory"])["summary"]["loss"] == 1  # nothing is lost


@pytest.mark.slow
def test_a_client_that_dies_ends_the_logging_and_not_the_trial(
    tmp_path: Path, lines: Lines
) -> None:
    logger = start(tmp_path / "first")
    processes = [found for found in gc.get_objects() if type(found) is subprocess.Popen]
    running = [found for found in processes if found.poll() is None]
    (core,) = [found for found in running if "wandb-core" in str(found.args)]
    core.kill()
    core.wait()
    for step in range(200):
        logger.log_metrics({"loss": 1.0}, step)
    log_picture(logger, "samples", np.zeros((4, 4, 3), np.uint8), 200)
    finish(logger, status="completed")
    assert len(lines()) == 2
    assert lines()[1].startswith("W&B: logging stopped, because its client failed (")

    logger = start(tmp_path / "second")
    logger.log_metrics({"loss": 1.0}, 0)
    directory = describe(logger)["directory"]
    finish(logger, status="completed")
    assert summary(directory)["summary"]["loss"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"project": "a/b"}, "Invalid project name 'a/b'"),
        ({"tags": ["t" * 65]}, "65 characters"),
        ({"run_id": "a/b"}, "Run ID cannot contain"),
    ],
)
def test_names_that_wandb_does_not_accept_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        start(tmp_path, **options)


@pytest.mark.slow
def test_lightning_logs_through_it_and_hands_over_the_checkpoint(tmp_path: Path) -> None:
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import ModelCheckpoint

    class Line(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = self.layer(batch).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    logger = start(tmp_path, log_model=True)
    trainer = pl.Trainer(
        logger=logger,
        max_epochs=1,
        accelerator="cpu",
        log_every_n_steps=1,
        callbacks=[ModelCheckpoint(tmp_path / "checkpoints")],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches: Any = torch.ones(2, 2, 1)
    trainer.fit(Line(), torch.utils.data.DataLoader(batches, batch_size=None))
    about = describe(logger)
    finish(logger, status="completed")
    rows = [row["item"] for row in records(about["directory"], "history") if "loss" in row["item"]]
    assert [row["trainer/global_step"] for row in rows] == [0, 1]
    assert f"model-{about['id']}" in inspect(about["directory"])


def test_the_sync_command_is_short_and_survives_spaces(tmp_path: Path) -> None:
    assert sync_command(tmp_path / "a b" / "run-1") == "wandb sync 'a b/run-1'"
    assert sync_command(Path("/a/run-1"), online=True) == "wandb sync --include-online /a/run-1"
