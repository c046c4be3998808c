"""The commands that people type, in their own process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analysis.load import load
from experiments import rerun
from experiments.record import read_result
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[1]
SMALL = [
    "data.size=32",
    "data.count=120",
    "model.width=4",
    "latent_dim=4",
    "batch_size=16",
    "max_epochs=2",
    "evaluation.samples=64",
]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own and no W&B settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return {
        **kept,
        "HOME": str(tmp_path / "home"),
        "VAESWEEP_CACHE": str(tmp_path / "cache"),
        # The W&B client leaves the directory of a table's artifact to the interpreter's end.
        "PYTHONWARNINGS": "default,ignore:Implicitly cleaning up:ResourceWarning",
        "PYTHONPATH": str(ROOT),
    }


def command(
    *arguments: str, cwd: Path, env: dict[str, str], module: str | None = None
) -> subprocess.CompletedProcess[str]:
    target = ["-m", module] if module else [str(ROOT / "run.py")]
    return subprocess.run(
        [sys.executable, *target, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.mark.slow
def test_one_trial_prints_what_it_stored_and_can_be_rerun(
    tmp_path: Path, home: dict[str, str]
) -> None:
    done = command(*SMALL, "logger=wandb", cwd=tmp_path, env=home)
    assert done.returncode == 0, done.stderr
    (result,) = results(tmp_path / "outputs")
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    row = re.search(r"psnr\W+([\d.]+)\W+([\d.]+)", done.stdout)
    assert row is not None, done.stdout
    assert [float(cell) for cell in row.groups()] == [
        float(f"{metrics[split]['psnr']:.4g}") for split in ("val", "test")
    ]
    for name in ("result.json", "best.ckpt", "reconstructions.png", "samples.png"):
        (path,) = re.findall(rf"\S+{name}", done.stdout)
        assert (tmp_path / path).is_file()

    # Without a key W&B is offline, in one line that says how to bring the run there.
    (line,) = [line for line in done.stderr.splitlines() if "W&B" in line]
    assert "no API key" in line
    (folder,) = re.findall(r"wandb sync (\S+)", line)
    assert list((tmp_path / folder).glob("*.wandb"))
    assert "Warning" not in done.stderr, done.stderr

    (record,) = (tmp_path / "outputs").rglob("result.json")
    again = command(str(record.parent), cwd=tmp_path, env=home, module="experiments.rerun")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "the same metrics, bit for bit" in again.stdout
    trained_again = results(tmp_path / "outputs")[1]
    assert trained_again["metrics"] == metrics
    assert trained_again["rerun_of"] == str(record.parent)
    assert len(load(tmp_path / "outputs").trials) == 1, "the same trial is one row"


@pytest.mark.slow
@pytest.mark.trains
def test_a_rerun_tells_what_differs(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = tmp_path / "record"
    record.mkdir()
    stored = json.loads((trained / "result.json").read_text())
    stored["metrics"]["val"]["psnr"] = 99.0
    (record / "result.json").write_text(json.dumps(stored))
    shutil.copy(trained / "config.json", record)
    monkeypatch.setattr(sys, "argv", ["rerun", str(record), "--out", str(tmp_path / "again")])
    with pytest.raises(SystemExit) as ended:
        rerun.main()
    assert ended.value.code == 1
    assert "val psnr: 99.0 before" in capsys.readouterr().out


@pytest.mark.slow
def test_help_names_the_knobs_and_the_choices(tmp_path: Path, home: dict[str, str]) -> None:
    done = command("--help", cwd=tmp_path, env=home)
    assert done.returncode == 0
    for word in ("python run.py -m loss=ssim,mse", "latent_dim", "kornia_ms_ssim", "experiments:"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss=sim"], "`loss` must be one of charbonnier"),
        (["lr=-1"], "`lr` must be above 0, but got -1.0"),
        (["lr=fast"], "`lr` must be a number, but got fast"),
        (["learning_rate=1"], "`learning_rate` is not a key of the config"),
        (["data=images", "data.root=absent"], "absent does not exist"),
        (["sweep=wandb", "sweep.file=a.yaml"], "`sweep.file` must be searched with -m"),
        (["hydra.run.dir=/dev/null/x"], "the output directory must be one that can be written"),
    ],
)
def test_a_mistake_is_one_message_and_an_exit_status(
    tmp_path: Path, home: dict[str, str], arguments: list[str], message: str
) -> None:
    done = command(*arguments, cwd=tmp_path, env=home)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_hydras_full_error_shows_the_traceback(tmp_path: Path, home: dict[str, str]) -> None:
    done = command("lr=-1", cwd=tmp_path, env={**home, "HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@contextmanager
def started(*arguments: str, cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python run.py` with these arguments while it runs; killed at the end."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=cwd,
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A shell's background jobs ignore interrupts, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_trial_says_so_in_its_record(
    tmp_path: Path, home: dict[str, str], stop: signal.Signals
) -> None:
    arguments = [*SMALL, "max_epochs=100000", "trainer.early_stopping_patience=null", "logger=none"]
    with started(*arguments, cwd=tmp_path, env=home) as process:
        wait_until(
            lambda: bool(list(tmp_path.rglob("history.jsonl"))), process, process.communicate
        )
        process.send_signal(stop)
        assert process.wait(timeout=PATIENCE) != 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    (result,) = results(tmp_path / "outputs")
    assert result["status"] == "interrupted"


LONG = [
    *SMALL, "data.count=300", "max_epochs=60", "trainer.early_stopping_patience=null",
    "logger=none", "trainer.threads=1",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_continues_a_single_run_bit_for_bit(
    tmp_path: Path, home: dict[str, str], stop: signal.Signals
) -> None:
    env = {**home, "VAESWEEP_WAITS": "0.01"}  # a checkpoint after every epoch
    here = ["hydra.run.dir=broken"]
    with started(*LONG, *here, cwd=tmp_path, env=env) as process:
        last = tmp_path / "broken/checkpoints/last.ckpt"
        wait_until(last.exists, process, process.communicate)
        second = command(*LONG, *here, cwd=tmp_path, env=env)
        assert second.returncode == 75
        assert "but another process trains in" in second.stderr
        process.send_signal(stop)
        said = process.communicate(timeout=PATIENCE)[1].decode()
    if stop == signal.SIGINT:
        assert f"to continue: python {ROOT / 'run.py'}" in said
        assert shlex.split(said.partition("to continue: ")[2].splitlines()[0])[2:] == [
            *LONG, "hydra.run.dir=broken",
        ]  # fmt: skip
    other = command(*LONG, *here, "lr=0.5", cwd=tmp_path, env=env)
    assert other.returncode == 2
    assert "must be the one that was interrupted" in other.stderr
    assert "lr was" in other.stderr

    again = command(*LONG, *here, cwd=tmp_path, env=env)
    whole = command(*LONG, "hydra.run.dir=whole", cwd=tmp_path, env=env)
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr
    assert "continues after epoch" in again.stderr
    assert not last.exists()
    both = [read_result(tmp_path / name) for name in ("broken", "whole")]
    assert both[0]["metrics"] == both[1]["metrics"]
    assert both[0]["epochs"] == both[1]["epochs"] == 60

    of_a_sweep = read_result(tmp_path / "whole") | {"status": "interrupted"}
    of_a_sweep["study"] = {"id": "a", "name": "cats", "trial": 3}
    (tmp_path / "whole/result.json").write_text(json.dumps(of_a_sweep))
    foreign = command(*LONG, "hydra.run.dir=whole", cwd=tmp_path, env=env)
    assert foreign.returncode == 2
    assert "has the record of trial 3 of the study 'cats'" in foreign.stderr

    finished = command(*LONG, *here, cwd=tmp_path, env=env)
    assert finished.returncode == 2
    assert "without the record of a finished one" in finished.stderr
