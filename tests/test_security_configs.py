"""A config that is somebody else's decides what is trained, and nothing else.

Each harm is tried by the command itself, in this process. What must not happen leaves a mark, or
a file, outside the folder of the outputs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import open_dict

from experiments.errors import UserError
from tests.hydra_multirun import hydra_afresh
from tests.words import trusting

ROOT = Path(__file__).parents[1]
TINY = {
    "data": {"size": 32, "count": 120}, "model": {"width": 4}, "latent_dim": 4, "batch_size": 16,
    "max_epochs": 1, "trainer": {"progress": False}, "evaluation": {"samples": 64},
}  # fmt: skip
"""What their config says besides: a trial of a second."""

Said = tuple[int, str]


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
        with hydra_afresh():
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
    "env_copy of what is not there": (
        job(env_copy=["NOT_THERE"]), "`hydra.job.env_copy` must name variables that are set"
    ),
    "a loss of no trust": ({"loss": POPEN}, "VAESWEEP_TRUST=subprocess"),
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
        "`hydra.job_logging.formatters.plain.()` must be one of",
    ),
    "a stream that is another object": (
        {"hydra": {"job_logging": {"handlers": {"console": {"stream": "ext://os.system"}}}}},
        "`hydra.job_logging.handlers.console.stream` must be one of",
    ),
    "an object behind an interpolation": (
        {"logger": {"tags": ["ext://os.system"]},
         "hydra": {"job_logging": {"formatters": {"plain": {"format": "${logger.tags.0}"}}}}},
        "`hydra.job_logging.formatters.plain.format` must be written out",
    ),
    "a search path that is imported": (
        {"hydra": {"searchpath": ["pkg://antigravity"]}}, "hydra.searchpath"
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
    "an environment from elsewhere": (
        {"loss": {"evil": {"LD_PRELOAD": "x"}}, "hydra": {"job": {"env_set": "${loss.evil}"}}},
        "`hydra.job.env_set` must be written out",
    ),
    "callbacks from elsewhere": (
        {"loss": {"evil": {"x": {"_target_": "os.system", "command": "touch {mark}"}}},
         "hydra": {"callbacks": "${loss.evil}"}},
        "`hydra.callbacks` must be written out",
    ),
    "log handlers from elsewhere": (
        {"loss": {"evil": {"x": {"class": "logging.FileHandler", "filename": "{outside}/x"}}},
         "hydra": {"hydra_logging": {"version": 1, "root": {"handlers": ["x"]},
                                     "handlers": "${loss.evil}"}}},
        "`hydra.hydra_logging.handlers` must be written out",
    ),
    "a launcher from elsewhere": (
        {"loss": {"evil": {"setup": ["touch {mark}"]}}, "hydra": {"launcher": "${loss.evil}"}},
        "",
    ),
    "a search space from elsewhere": (
        {"loss": {"evil": {"data.cache_dir": "{outside}"}},
         "hydra": {"sweeper": {"params": "${loss.evil}"}}},
        "`hydra.sweeper.params` must be written out",
    ),
    "a rented cluster": (launcher("ray_aws"), "`hydra/launcher` must be typed"),
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
    "a log file before there is a run": (
        logs("hydra_logging", **{"class": "logging.FileHandler",
             "filename": "${hydra.runtime.output_dir}/x.log"}),
        "`hydra.hydra_logging.handlers.x.filename` must be left out",
    ),
    "an attribute of a log handler": (
        logs("job_logging", **{"class": "logging.FileHandler", "delay": True,
             "filename": "${hydra.runtime.output_dir}/run.log",
             ".": {"baseFilename": "{outside}/x"}}),
        "must be left out, since it changes what logging has made",
    ),
    "the output directory of Hydra's own": (
        {"hydra": {"runtime": {"output_dir": "{outside}"}}},
        "`hydra.runtime.output_dir` must be left to Hydra",
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
        {"hydra": {"run": {"dir": "{outside}/x"}, "sweep": {"dir": "{outside}/x"}}},
        "below outputs/",
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
        "below outputs/",
    ),
    "a subdirectory above": ({"hydra": {"sweep": {"subdir": "../../../x"}}}, "below outputs/"),
    "a name above": ({"name": "../../x"}, "x"),
    "Hydra's own folder": ({"hydra": {"output_subdir": "{outside}"}}, "`hydra.output_subdir` must"),
    "the job's name": (job(name="../../x"), "`hydra.job.name` must be a file name"),
    "the cache": ({"data": {"cache_dir": "{outside}"}}, "VAESWEEP_CACHE="),
    "the cache, from a key that is searched": (
        {"data": {"cache_dir": "${logger.group}"}, "logger": {"group": ".cache/vaesweep"}}
        | sweeper(params={"logger.group": "{outside}/a,{outside}/b"}),
        "`data.cache_dir` of a config file must be left out",
    ),
    "the name, from a key that is searched": (
        {"name": "${logger.group}", "logger": {"group": "x"}}
        | sweeper(params={"logger.group": "../../{outside}/a,../../{outside}/b"}),
        "`name` must be",
    ),
    "the cache in the search space": (
        sweeper(params={"data.cache_dir": "{outside}", "lr": "1e-3,1e-2"}), "`data.cache_dir`"
    ),
    "the cache in the search space, nested": (
        sweeper(params={"data": "{cache_dir:x}", "lr": "1e-3,1e-2"}), "`data.cache_dir`"
    ),
    "a journal": (sweeper(storage="journal://{outside}/x"), "`hydra.sweeper.storage` must"),
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
    "seeds": (sweeper(params={"seed": "range(0,2000000000)"}), "at most 1,000,000 values"),
    "values": (sweeper(params={"max_epochs": "range(1,1000000000)"}), "has 999,999,999"),
    "values with a step": (
        sweeper(params={"lr": "range(0.1,1,1e-12)"}), "at most 1,000,000 values of a key"
    ),
    "sorted values": (sweeper(params={"lr": "sort(range(1,1000000000))"}), "999,999,999"),
    "a width": ({"model": {"width": 10**8}}, "`model.width` must be an integer above 0, at most"),
    "a network": ({"model": {"width": 4096}, "data": {"size": 256}}, "a network, its gradients"),
    "samples": ({"evaluation": {"samples": 10**12}}, "`evaluation.samples` must be"),
    "threads": ({"trainer": {"threads": 10**6}}, "`trainer.threads` must be"),
}  # fmt: skip
IN_SWEEPS = (
    "trust in env_set", "a loss of no trust", "a callback", "a log file, before the run",
    "a storage", "the shell of a SLURM job", "the directory of a run",
    "a subdirectory above", "the cache in the search space", "a secret in the search space",
    "an environment in the search space", "Hydra's node in the search space",
    "the cache in the search space, nested", "workers", "seeds", "values", "values with a step",
    "sorted values", "the cache, from a key that is searched",
    "the name, from a key that is searched",
)  # fmt: skip
"""Tried with `-m`, which reads what a single run does not."""


def filled(content: Any, **places: str) -> Any:
    text = json.dumps(content)
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", place)
    return json.loads(text)


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {k: merged(under[k], v) for k, v in over.items() if k in under and isinstance(v, dict)}
    return under | over | both


@pytest.mark.parametrize("harm", HARMS)
def test_a_config_file_does_no_harm(
    harm: str,
    tmp_path: Path,
    run: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
    if harm in IN_SWEEPS:
        words += ["-m", "loss=mse,l1" if harm == "seeds" else "seed=0,1"] + [
            "hydra.sweeper.n_jobs=0"
        ] * ("n_jobs" not in str(content))
    status, said = run(*words)
    assert status == 2, said
    assert message in said
    assert "UNSAFE" not in said
    assert "_execution_whitelist_" not in said
    assert "hunter2" not in said
    assert [p for p in left(tmp_path) if not p.startswith("work/.cache")] == []
    assert not any("hunter2" in p.read_text(errors="replace") for p in tmp_path.rglob("*.json"))


BOMB = "\n".join(
    [
        "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)),
    ]
)
"""A hundred million numbers in half a kilobyte of YAML."""


def test_aliases_that_make_little_into_much_are_refused(
    tmp_path: Path, run: Callable[..., Said]
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "experiments").mkdir(parents=True)
    (theirs / "experiments/theirs.yaml").write_text(f"# @package loss.options\n{BOMB}\n")
    status, said = run("--config-dir", str(theirs), "experiments=theirs")
    assert status == 2
    assert "10000" in said
    assert "Traceback" not in said

    indented = BOMB.replace("\n", "\n      ")
    text = "method: grid\nparameters:\n  lr:\n    values:\n    - {}\n"
    file = theirs / "sweep.yaml"
    file.write_text(text.format(indented))
    status, said = run("-m", "sweep=wandb", f"sweep.file={file}")
    assert status == 2
    assert "at most 10,000 values" in said
    file.write_text(text.format("&a [*a]"))
    status, said = run("-m", "sweep=wandb", f"sweep.file={file}")
    assert status == 2
    assert "at most 10,000 values" in said

    many = "{distribution: q_uniform, min: 1, max: 1000000000, q: 1}"
    file.write_text(f"method: grid\nparameters:\n  max_epochs: {many}\n")
    status, said = run("-m", "sweep=wandb", f"sweep.file={file}")
    assert status == 2
    assert "at most 1,000,000 values" in said


VARIABLES = (
    "VAESWEEP_TRUST", "VAESWEEP_CACHE", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD",
    "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PATH", "HYDRA_FULL_ERROR", "BASH_ENV",
    "GCONV_PATH", "MPLBACKEND", "HOME", "XDG_CONFIG_HOME", "NETRC", "WANDB_BASE_URL",
    "WANDB_API_KEY", "NCCL_NET_PLUGIN", "CUDA_INJECTION64_PATH", "TORCH_LOGS", "CXX",
    "TORCHINDUCTOR_CACHE_DIR", "HTTPS_PROXY", "SSL_CERT_FILE", "GIT_SSH_COMMAND", "PYTORCH_JIT",
    "OPENSSL_CONF", "PAGER", "EDITOR", "TMPDIR", "RAY_ADDRESS", "SLURM_CONF", "FOO",
)  # fmt: skip


def composed(theirs: Path, *overrides: str) -> Any:
    """What Hydra composes of somebody's folder of configs and of typed words."""
    from hydra import compose, initialize_config_dir

    from experiments import config

    config.register()
    with hydra_afresh(), initialize_config_dir(str(ROOT / "conf")):
        words = [f"hydra.searchpath=[file://{theirs}]", *overrides]
        return compose("config", words, return_hydra_config=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIABLES)
def test_a_config_file_sets_no_variable_that_changes_what_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, content in (("env_set", {name: "hunter2"}), ("env_copy", [name])):
        written(tmp_path / "experiments", "theirs", job(**{key: content}))
        monkeypatch.setenv(name, os.environ.get(name, "x"))
        with pytest.raises(UserError, match=r"`hydra\.job\.env_(set|copy).*must"):
            composed(tmp_path, "experiments=theirs")


@pytest.mark.parametrize(
    "name", ["VAESWEEP_TRUST", "vaesweep_trust", "PYTHONPATH", "LD_PRELOAD", "PATH"]
)
def test_what_a_process_reads_at_its_start_is_refused_also_where_it_was_typed(
    name: str, tmp_path: Path
) -> None:
    for text in (f"+hydra.job.env_set.{name}=x", f"+hydra.job.env_set={{{name}:x}}"):
        with pytest.raises(UserError, match=rf"before the command: {name}=\.\.\. python run\.py"):
            composed(tmp_path, text)


MEANT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "threads": (env(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="0"), []),
    "names and places": (
        {"name": "${oc.env:USER,me}", "data": {"cache_dir": "${oc.env:VAESWEEP_CACHE,x}"}}, []
    ),
    "a typed variable": ({}, ["+hydra.job.env_set.FOO=bar"]),
    "a typed secret": ({}, ["logger.group='${oc.env:SECRET}'"]),
    "a typed directory": ({}, ["hydra.run.dir=/elsewhere", "hydra.sweep.dir=/elsewhere"]),
    "typed over theirs": (
        {"hydra": {"run": {"dir": "/theirs"}}, "data": {"cache_dir": "/theirs"}},
        ["hydra.run.dir=/mine", "data.cache_dir=/mine"],
    ),
    "a directory of outputs": ({"hydra": {"run": {"dir": "outputs/x/${now:%Y}"}}}, []),
    "documented patterns": (
        {"hydra": {"sweep": {"dir": "outputs/a/${now:%Y-%m-%d}",
                             "subdir": "${hydra.job.override_dirname}"}}},
        [],
    ),
    "a typed cache": ({}, ["data.cache_dir=/elsewhere"]),
    "a typed storage": ({}, ["hydra.sweeper.storage=postgresql://me@db/studies"]),
    "a search": (sweeper(params={"loss": "mse,ssim", "lr": "interval(1e-4,1e-2)"}, n_jobs=4), []),
    "a SLURM job": (
        launcher("submitit_slurm", partition="gpu", timeout_min=30, cpus_per_task=8, gres="gpu:1"),
        [],
    ),
    "a typed shell": (
        launcher("submitit_slurm"), ["hydra.launcher.setup=['module load cuda']"]
    ),
    "Ray's processors": (launcher("ray", ray={"remote": {"num_cpus": 2}}), []),
    "joblib": (launcher("joblib", verbose=1), []),
    "logs": (
        logs("job_logging", **{"class": "logging.FileHandler",
             "filename": "${hydra.runtime.output_dir}/more.log"}),
        [],
    ),
    "a typed log": ({}, ["hydra.job_logging.handlers.file.filename=/elsewhere/x.log"]),
    "Hydra's own logs": ({}, ["hydra/job_logging=default", "hydra/hydra_logging=default"]),
    "no folder of Hydra's": ({"hydra": {"output_subdir": None}}, []),
    "Hydra's callback": (
        {"hydra": {"callbacks": {"x": {
            "_target_": "hydra.experimental.callbacks.PickleJobInfoCallback"}}}},
        [],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", MEANT)
def test_what_a_file_may_say_and_what_is_typed_composes(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "SLURM" in what or "shell" in what:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("SECRET", "mine")
    content, typed = MEANT[what]
    written(tmp_path / "experiments", "theirs", content)
    config = composed(tmp_path, "experiments=theirs", *typed)
    if what == "a typed secret":
        assert config.logger.group == "mine"


def test_the_users_word_lets_a_config_name_code_and_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        "hydra": {
            "callbacks": {"x": {"_target_": "my_code.Callback"}},
            "run": {"dir": f"{tmp_path}/runs/x"},
            "sweep": {"dir": f"{tmp_path}/runs"},
        },
        "data": {"cache_dir": f"{tmp_path}/cache"},
    }
    written(tmp_path / "experiments", "theirs", content)
    with pytest.raises(UserError, match="VAESWEEP_TRUST=my_code"):
        composed(tmp_path, "experiments=theirs")
    trusting(monkeypatch, "my_code", f"{tmp_path}/runs", f"{tmp_path}/cache")
    composed(tmp_path, "experiments=theirs")


def test_a_directory_that_changes_with_the_trial_is_looked_at_again(tmp_path: Path) -> None:
    from experiments.config.guard import check_directories

    sly = "${oc.select:places.p${hydra.job.num},outputs/x}"
    written(tmp_path / "experiments", "theirs", {"hydra": {"sweep": {"dir": sly}}})
    config = composed(tmp_path, "experiments=theirs", "+places={p1:/elsewhere}")
    check_directories(config)
    with open_dict(config.hydra):
        config.hydra.job.num = 1
    with pytest.raises(UserError, match="below outputs/"):
        check_directories(config)


@pytest.mark.filterwarnings("ignore:extend_list")
def test_the_choice_of_a_group_is_no_word_on_its_keys(tmp_path: Path) -> None:
    written(tmp_path / "experiments", "theirs", {"data": {"cache_dir": "/theirs"}})
    with pytest.raises(UserError, match="data\\.cache_dir"):
        composed(tmp_path, "experiments=theirs", "data=images", "data.root=x")
    content = launcher("submitit_slurm", setup=["theirs"])
    written(tmp_path / "experiments", "theirs", content)
    with pytest.raises(UserError, match="hydra\\.launcher\\.setup"):
        composed(tmp_path, "experiments=theirs", "hydra.launcher.setup=extend_list(mine)")


def test_a_record_s_words_are_not_the_users(tmp_path: Path, run: Callable[..., Said]) -> None:
    for option in ("--experimental-rerun", "--experimental-re"):
        status, said = run(option, str(tmp_path))
        assert status == 2
        assert "python -m experiments.rerun" in said


COMMANDS = {
    "run": [],
    "sweep": ["-m", "seed=0,1"],
    "sweep in this process": ["-m", "seed=0,1", "hydra.sweeper.n_jobs=0"],
    "joblib": ["-m", "seed=0,1", "hydra/launcher=joblib"],
}


@pytest.mark.slow
@pytest.mark.parametrize("how", COMMANDS)
def test_the_command_reads_trust_before_any_config(how: str, tmp_path: Path) -> None:
    """Issue: an experiment set the trust that was then read, and ran a command."""
    mark = tmp_path / "mark"
    content = filled(
        merged(TINY, env(VAESWEEP_TRUST="subprocess") | {"loss": POPEN}), mark=str(mark)
    )
    written(tmp_path / "theirs/experiments", "theirs", content)
    ended = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "--config-dir", str(tmp_path / "theirs"),
         "experiments=theirs", "logger=none", *COMMANDS[how]],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "VAESWEEP_TRUST=... python run.py" in ended.stderr
    assert not mark.exists()


def test_trust_is_read_when_the_process_starts(tmp_path: Path) -> None:
    code = (
        "import os, losses.trust as t; os.environ[t.VARIABLE] = 'late'; "
        "print(t.trusted_packages(), t.how_to_trust('x'))"
    )
    environment = {**os.environ, "VAESWEEP_TRUST": "early, a/b.pt", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said == "['early'] put VAESWEEP_TRUST=early,a/b.pt,x before the command\n"
