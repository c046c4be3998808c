"""A config that is somebody else's decides what is trained, and nothing else.

Each harm is tried by the command itself, in this process. What must not happen leaves a mark, or
a file, outside the folder of the outputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TINY = {
    "data": {"size": 32, "count": 120}, "model": {"width": 4}, "latent_dim": 4, "batch_size": 16,
    "max_epochs": 1, "trainer": {"progress": False}, "evaluation": {"samples": 64},
}  # fmt: skip
"""What their config says besides: a trial of a second."""

Said = tuple[int, str]


@contextmanager
def other_hydra() -> Iterator[None]:
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if before is not None:
            GlobalHydra.instance().initialize(before)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`python run.py` in this process: its exit status, and what it said."""
    import run as program
    from experiments.terminal import errors_for_people

    work = tmp_path / "work"
    work.mkdir()

    def ran(*arguments: str) -> Said:
        monkeypatch.chdir(work)
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)  # which the one before has set
        status: Any = 0
        given = ["--config-path", str(ROOT / "conf"), *arguments]  # as if it were the main module
        monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py"), *given])
        with other_hydra():
            try:
                with errors_for_people():
                    program.refuse_a_records_words(arguments)
                    program.train()
            except SystemExit as end:
                status = end.code
        said = capsys.readouterr()
        return status, said.out + said.err

    return ran


def written(folder: Path, name: str, content: Any, package: str = "_global_") -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package {package}\n{yaml.safe_dump(content)}")
    return path


def left(tmp_path: Path) -> list[str]:
    """Everything that is not the given configs."""
    paths = (p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    return [p for p in paths if not p.startswith(("theirs/", "work/outputs/"))]


TOUCH = ["touch", "{mark}"]
POPEN = {"name": "custom", "target": "subprocess.Popen", "options": {"args": TOUCH}}


def job(**settings: Any) -> dict[str, Any]:
    return {"hydra": {"job": settings}}


def env(**variables: str) -> dict[str, Any]:
    return job(env_set=variables)


def launcher(name: str, **settings: Any) -> dict[str, Any]:
    return {
        "defaults": [{"override /hydra/launcher": name}],
        "hydra": {"launcher": settings},
    }


def sweeper(**settings: Any) -> dict[str, Any]:
    return {"hydra": {"sweeper": settings}}


def logs(section: str, **handler: Any) -> dict[str, Any]:
    content = {
        "version": 1,
        "root": {"level": "INFO", "handlers": ["x"]},
        "handlers": {"x": handler},
    }
    return {"hydra": {section: content}}


HARMS: dict[str, tuple[dict[str, Any], str]] = {
    # Runs code.
    "trust in env_set": (env(VAESWEEP_TRUST="subprocess") | {"loss": POPEN}, "VAESWEEP_TRUST=..."),
    "trust in lower case": (env(vaesweep_trust="subprocess") | {"loss": POPEN}, "env_set"),
    "env_copy of a secret": (job(env_copy=["SECRET"]), "`hydra.job.env_copy` must be typed"),
    "a loss of no trust": ({"loss": POPEN}, "VAESWEEP_TRUST=subprocess"),
    **{
        f"env_set.{name}": (env(**{name: "x"}), f"`hydra.job.env_set.{name}` must")
        for name in (
            "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES", "PATH", "HYDRA_FULL_ERROR", "VAESWEEP_CACHE", "BASH_ENV",
            "GCONV_PATH", "MPLBACKEND", "HOME", "XDG_CONFIG_HOME", "NETRC", "WANDB_BASE_URL",
            "WANDB_API_KEY", "NCCL_NET_PLUGIN", "CUDA_INJECTION64_PATH", "TORCH_LOGS",
            "TORCHINDUCTOR_CACHE_DIR", "CXX", "HTTPS_PROXY", "SSL_CERT_FILE", "GIT_SSH_COMMAND",
            "PYTORCH_JIT", "OPENSSL_CONF", "PAGER", "EDITOR", "TMPDIR", "FOO",
        )
    },
    "a callback": (
        {"hydra": {"callbacks": {"x": {"_target_": "subprocess.Popen", "args": TOUCH}}}},
        "VAESWEEP_TRUST=subprocess",
    ),
    "a callback of Hydra's tests, which runs commands": (
        {"hydra": {"callbacks": {"x": {
            "_target_": "hydra.test_utils.test_utils.run_process", "cmd": TOUCH}}}},
        "`hydra.callbacks.x._target_` must name code that you trust",
    ),
    "a callback within a callback": (
        {"hydra": {"callbacks": {"x": {
            "_target_": "hydra.experimental.callbacks.PickleJobInfoCallback",
            "y": {"_target_": "os.system", "command": "touch {mark}"}}}}},
        "`hydra.callbacks.x.y._target_` must name code",
    ),
    "a log handler's factory": (
        logs("job_logging", **{"()": "subprocess.Popen", "args": TOUCH}),
        "VAESWEEP_TRUST=subprocess",
    ),
    "a log handler's factory, before the run": (
        logs("hydra_logging", **{"()": "subprocess.Popen", "args": TOUCH}),
        "VAESWEEP_TRUST=subprocess",
    ),
    "a log formatter's factory": (
        {"hydra": {"job_logging": {"formatters": {"plain": {"()": "os.system",
         "command": "touch {mark}"}}}}},
        "os.system",
    ),
    "a search path that is imported": (
        {"hydra": {"searchpath": ["pkg://antigravity"]}}, "hydra.searchpath"
    ),
    "a sampler": (
        sweeper(sampler={"_target_": "subprocess.Popen", "args": TOUCH}), "VAESWEEP_TRUST"
    ),
    "a pruner": (
        sweeper(pruner={"_target_": "subprocess.Popen", "args": TOUCH}), "VAESWEEP_TRUST"
    ),
    "a storage": (
        sweeper(storage={"_target_": "subprocess.Popen", "args": TOUCH}),
        "`hydra.sweeper.storage` must be typed",
    ),
    "the shell of a SLURM job": (
        launcher("submitit_slurm", setup=["touch {mark}"]), "`hydra.launcher.setup` must be typed"
    ),
    "the python of a SLURM job": (
        launcher("submitit_slurm", python="touch {mark};python"), "`hydra.launcher.python` must be"
    ),
    "srun's arguments": (launcher("submitit_slurm", srun_args=["--x"]), "hydra.launcher.srun_args"),
    "sbatch's parameters": (
        launcher("submitit_slurm", additional_parameters={"wrap": "touch {mark}"}),
        "`hydra.launcher.additional_parameters.wrap`",
    ),
    "a second line in a name": (
        launcher("submitit_slurm", partition="gpu\ntouch {mark} #"), "`hydra.launcher.partition`"
    ),
    "Ray's environment": (
        launcher("ray", ray={"init": {"runtime_env": {"env_vars": {"VAESWEEP_TRUST": "os"}}}}),
        "`hydra.launcher.ray.init.runtime_env.env_vars.VAESWEEP_TRUST` must be typed",
    ),
    "another cluster": (
        launcher("ray", ray={"init": {"address": "ray://evil:10001"}}),
        "`hydra.launcher.ray.init.address` must be typed",
    ),
    "joblib's folder": (launcher("joblib", temp_folder="{outside}"), "hydra.launcher.temp_folder"),
    "words that nobody typed": (
        {"hydra": {"overrides": {"hydra": ["hydra.job.env_set.VAESWEEP_TRUST=os"]}}},
        "`hydra.overrides` must hold what was typed",
    ),
    "an environment in the search space": (
        sweeper(params={"hydra.job.env_set.VAESWEEP_TRUST": "os", "lr": "1e-3,1e-2"}),
        "`hydra.job.env_set.VAESWEEP_TRUST`",
    ),
    "Hydra's node in the search space": (
        sweeper(params={"hydra": "{job:{env_set:{A:b}}}", "lr": "1e-3,1e-2"}), "`hydra.job.env_set"
    ),
    # Writes elsewhere.
    "a log file": (
        logs("job_logging", **{"class": "logging.FileHandler", "filename": "{outside}/x.log"}),
        "`hydra.job_logging.handlers.x.filename` must be",
    ),
    "a log file, before the run": (
        logs("hydra_logging", **{"class": "logging.FileHandler", "filename": "{outside}/x.log"}),
        "`hydra.hydra_logging.handlers.x.filename` must be",
    ),
    "code as a log file": (
        logs("job_logging", **{"class": "logging.FileHandler",
             "filename": "${hydra.runtime.output_dir}/conftest.py"}),
        "`hydra.job_logging.handlers.x.filename` must be",
    ),
    "a handler that sends": (
        logs("job_logging", **{"class": "logging.handlers.SocketHandler", "host": "h", "port": 1}),
        "`hydra.job_logging.handlers.x.class` must be one of",
    ),
    "the directory of a run": (
        {"hydra": {"run": {"dir": "{outside}/x"}, "sweep": {"dir": "{outside}/x"}}}, "below outputs/"
    ),
    "a directory above": (
        {"hydra": {"run": {"dir": "outputs/../../x"}, "sweep": {"dir": "outputs/../../x"}}},
        "below outputs/",
    ),
    "a directory beside": (
        {"hydra": {"run": {"dir": "outputs2/x"}, "sweep": {"dir": "outputs2/x"}}}, "below outputs/"
    ),
    "a directory that is known late": (
        {"hydra": {"run": {"dir": "${hydra:runtime.output_dir}/x"},
                   "sweep": {"dir": "${hydra:runtime.output_dir}/x"}}},
        "known before the run",
    ),
    "a subdirectory above": ({"hydra": {"sweep": {"subdir": "../../../x"}}}, "below outputs/"),
    "a name above": ({"name": "../../x"}, "x"),
    "Hydra's own folder": ({"hydra": {"output_subdir": "{outside}"}}, "`hydra.output_subdir` must"),
    "the job's name": (job(name="../../x"), "`hydra.job.name` must be a file name"),
    "the cache": ({"data": {"cache_dir": "{outside}"}}, "VAESWEEP_CACHE="),
    "the cache in the search space": (
        sweeper(params={"data.cache_dir": "{outside}", "lr": "1e-3,1e-2"}), "`data.cache_dir`"
    ),
    "the cache in the search space, nested": (
        sweeper(params={"data": "{cache_dir:x}", "lr": "1e-3,1e-2"}), "`data.cache_dir`"
    ),
    "a journal": (sweeper(storage="journal://{outside}/x"), "`hydra.sweeper.storage` must be typed"),
    "a database": (sweeper(storage="sqlite:///{outside}/x.db"), "`hydra.sweeper.storage` must"),
    # Reads a secret.
    "a secret in a tag": ({"logger": {"tags": ["${oc.env:SECRET}"]}}, "may be a secret"),
    "a secret in the name": ({"name": "${oc.env:SECRET}"}, "may be a secret"),
    "a secret in two parts": (
        {"logger": {"group": "${oc.decode:'${.tags.0}${.tags.1}'}",
                    "tags": ["$", "{oc.env:SECRET}"]}},
        "",
    ),
    "a secret by a resolver of a computed name": (
        {"logger": {"group": "${oc.${.tags.0}:SECRET}", "tags": ["env"]}}, "may be a secret"
    ),
    "a secret in the search space": (
        sweeper(params={"name": "${oc.env:SECRET}", "lr": "1e-3,1e-2"}), "may be a secret"
    ),
    # Asks for the moon.
    "workers": (sweeper(n_jobs=100_000), "`hydra.sweeper.n_jobs` must be at most 256"),
    "images": ({"data": {"count": 10**12}}, "`data.count` must be"),
    "pixels": ({"data": {"size": 10**6}}, "`data.size` must be"),
    "latent units": ({"latent_dim": 10**9}, "`latent_dim` must be"),
    "a batch": ({"batch_size": 10**12}, "`batch_size` must be"),
    "samples": ({"evaluation": {"samples": 10**12}}, "`evaluation.samples` must be"),
    "threads": ({"trainer": {"threads": 10**6}}, "`trainer.threads` must be"),
}  # fmt: skip
ONLY_IN_SWEEPS = ("search space", "search space, nested", "a sampler", "a pruner")


def filled(content: Any, **places: str) -> Any:
    text = json.dumps(content)
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", place)
    return json.loads(text)


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: merged(under[k], v) for k, v in over.items() if k in under and isinstance(v, dict)}
    return under | over | both


@pytest.mark.parametrize("how", ["run", "sweep"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_config_file_does_no_harm(
    harm: str,
    how: str,
    tmp_path: Path,
    run: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if how == "run" and harm.endswith(ONLY_IN_SWEEPS):
        pytest.skip("only a sweep searches")
    content, message = HARMS[harm]
    monkeypatch.setenv("SECRET", "hunter2")
    outside = tmp_path / "outside"
    outside.mkdir()
    content = filled(merged(TINY, content), mark=str(tmp_path / "mark"), outside=str(outside))
    words = ["--config-dir", str(tmp_path / "theirs"), "logger=csv"]
    if "searchpath" in content.get("hydra", {}):
        written(tmp_path / "theirs", "theirs", {"defaults": ["config", "_self_"], **content})
        words += ["--config-name", "theirs"]
    else:
        written(tmp_path / "theirs/experiments", "theirs", content)
        words += ["experiments=theirs"]
    if how == "sweep":
        words += ["-m", "seed=0,1"] + ["hydra.sweeper.n_jobs=0"] * ("n_jobs" not in str(content))
    status, said = run(*words)
    assert status == 1, said
    assert message in said
    assert "UNSAFE" not in said
    assert "_execution_whitelist_" not in said
    assert "hunter2" not in said
    assert [p for p in left(tmp_path) if not p.startswith("work/.cache")] == []
    assert not any("hunter2" in p.read_text(errors="replace") for p in tmp_path.rglob("*.json"))
