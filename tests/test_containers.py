"""The images and the services that compose.yaml makes of them.

No test here needs Docker: what the Dockerfile would run is run in a virtual environment instead.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pathspec import PathSpec

from serving.api.settings import Settings, options
from serving.server import END_SECONDS
from tests.servers import free_port, missing
from tests.services import running
from tests.shipping import ROOT, health_command, lint, locked, stages
from tests.test_serving_api import encoded

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
IMAGES = ("train", "serve")
INSTALL = "python -m pip install"
SECRET = re.compile("PASSWORD|KEY|TOKEN")
_UNREACHABLE = re.compile("ConnectTimeout|NewConnectionError|NameResolutionError|ProxyError")


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of what is sent to the builder."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    # Unlike .gitignore, a pattern begins at the top.
    rooted = (re.sub(r"^(!?)(?=[^!#*])", r"\1/", line) for line in lines)
    return PathSpec.from_lines("gitignore", rooted).match_file(path)


def names(image: str) -> set[str]:
    """The packages that a requirement file under deploy/images asks for."""
    lines = (ROOT / f"deploy/images/{image}.txt").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert not any(requirement.specifier for requirement in wanted), "the lock has the versions"
    return {canonicalize_name(requirement.name) for requirement in wanted}


def declared(*extras: str) -> set[str]:
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_the_dockerfile_is_as_the_linter_wants_it() -> None:
    assert lint("hadolint", "--no-color", "Dockerfile") == ""


def test_the_linter_finds_a_planted_mistake(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text((ROOT / "Dockerfile").read_text() + "\nADD x y\nENTRYPOINT python run.py\n")
    assert "DL3025" in lint("hadolint", "--no-color", bad)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_one_command_as_nobody_in_particular(image: str) -> None:
    stage = stages()[image]
    assert stage.base == "base"
    assert [kind for kind, _ in stage.steps].count("USER") == 1
    user, group = map(int, stage.last("USER").split(":"))  # by number, as Kubernetes checks
    assert user > 0
    assert group > 0
    commands = {"train": ["run.py"], "serve": ["-m", "serving.app", "--host", "0.0.0.0"]}
    assert json.loads(stage.last("ENTRYPOINT")) == ["python", *commands[image]]


@pytest.mark.parametrize("image", ["base", *IMAGES])
def test_what_is_copied_exists_and_reaches_the_builder(image: str) -> None:
    for sources, _ in stages()[image].copies():
        for source in sources:
            path = ROOT / source
            files = [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.yaml")]
            assert files, source
            kept = [f for f in files if "__pycache__" not in f.parts and "study" not in f.parts]
            assert [f for f in kept if ignored(f.relative_to(ROOT).as_posix())] == []


@pytest.mark.parametrize(
    "path",
    [
        ".env", ".git/config", ".dvc/config.local", ".cache/vaesweep/x", "outputs/vae/result.json",
        "photos/me.jpg", "data/images.zip", "tests/conftest.py", "models/__pycache__/vae.pyc",
        "analysis/study/README.md", "deploy/slurm/sweep.sbatch", "deploy/images/serve.txt",
        "serving/.env", "conf/.env.local", "experiments/.netrc",
    ],
)  # fmt: skip
def test_nothing_else_reaches_the_builder(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize("image", IMAGES)
def test_a_change_of_the_code_installs_nothing_again(image: str) -> None:
    steps = stages()[image].steps
    installs = [i for i, (kind, text) in enumerate(steps) if kind == "RUN" and INSTALL in text]
    assert len(installs) == 1
    before = [text for kind, text in steps[: installs[0]] if kind == "COPY"]
    torch = "requirements.cpu.lock " + "requirements.cuda.lock " * (image == "train")
    assert before == [f"{torch}deploy/images/{image}.lock ./"]
    assert stages()["base"].all("ENV")[0].count("PIP_NO_CACHE_DIR=1") == 1


def test_images_hold_the_declared_packages() -> None:
    dependencies = {canonicalize_name(Requirement(x).name) for x in PROJECT["dependencies"]}
    launchers = declared("joblib", "ray", "slurm", "postgresql", "mysql", "grpc", "dashboard")
    assert names("train") == dependencies | launchers
    assert declared("serve") <= names("serve") <= declared("serve") | dependencies
    for image in IMAGES:
        pinned = {canonicalize_name(pin.name) for pin, _ in locked(f"deploy/images/{image}.lock")}
        assert names(image) <= pinned | {"torch"}


def test_the_service_has_no_cuda_as_it_uses_no_gpu() -> None:
    (install,) = (text for text in stages()["serve"].all("RUN") if INSTALL in text)
    assert "requirements.cpu.lock" in install
    assert stages()["serve"].all("ARG") == []
    used = [path for path in (ROOT / "serving").rglob("*.py") if "cuda" in path.read_text()]
    assert used == [], "then an image with CUDA would have a use"
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text())
    built = workflow["jobs"]["build"]["strategy"]["matrix"]["include"]
    made = {(image["target"], image["device"]) for image in built}
    assert made == {("train", "cpu"), ("train", "cuda"), ("serve", "cpu")}
    for _, device in made:
        assert (ROOT / f"requirements.{device}.lock").is_file()
    assert "TORCH=${{ matrix.device }}" in str(workflow)


def test_only_what_has_passed_the_tests_is_published() -> None:
    def read(name: str) -> Any:
        # YAML 1.1 takes the key `on` for true.
        return yaml.safe_load((ROOT / ".github/workflows" / name).read_text())

    ci, images = read("ci.yml"), read("images.yml")
    assert images[True] == {"workflow_call": None}, "nothing but the tests' workflow starts it"
    publishing = ci["jobs"]["images"]
    assert publishing["uses"] == "./.github/workflows/images.yml"
    assert publishing["needs"] == "test"
    assert publishing["if"] == "github.event_name == 'push'", "no always(): it waits for success"
    assert ci["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert ci["permissions"] == {"contents": "read"}
    assert publishing["permissions"] == images["permissions"]


def test_latest_names_images_of_one_commit() -> None:
    """Each image has its commit's name first; once all are there, others name them, too."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text())["jobs"]
    assert jobs.keys() == {"build", "name"}
    assert jobs["build"]["strategy"]["fail-fast"] is False
    (meta,) = (step["with"] for step in jobs["build"]["steps"] if step.get("id") == "meta")
    assert meta["tags"] == "type=sha,format=long,prefix=,suffix=-${{ matrix.device }}"
    assert meta["flavor"] == "latest=false"
    assert jobs["name"]["needs"] == "build"
    (script,) = (step["run"] for step in jobs["name"]["steps"] if "run" in step)
    programs = 'docker() { echo docker "$@"; }; gh() { echo c0ffee; }'
    built = jobs["build"]["strategy"]["matrix"]["include"]
    images = [(f"ghcr.io/some/vae-{image['target']}", image["device"]) for image in built]

    def named(name: str, commit: str) -> list[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{programs}\n{script}"],
            env={"GITHUB_REPOSITORY": "Some/VAE", "GITHUB_SHA": commit, "NAME": name},
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip

    for name, tag, commit in (
        ("v1", "v1", "beef"), ("v1+x", "v1-x", "beef"), ("latest", "latest", "c0ffee"),
    ):  # fmt: skip
        assert named(name, commit) == [
            f"docker buildx imagetools create --tag {at}:{tag}-{device} {at}:{commit}-{device}"
            for at, device in images
        ]
    # A run of an older commit that is started again by hand.
    assert named("latest", "beef") == ["latest is left to main's newest commit, c0ffee"]


@pytest.mark.slow
def test_the_services_are_what_compose_understands() -> None:
    assert lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml") == ""


def test_no_service_is_open_to_the_network_or_knows_a_password() -> None:
    for service in COMPOSE["services"].values():
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", []))
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                # None: from outside where it is set there, and else not set at all.
                assert value is None or re.fullmatch(r"\$\{\w+:-\}", value), name
    assert COMPOSE["services"]["serve"]["environment"]["VAESWEEP_TOKEN"] is None, "empty is refused"
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_each_service_is_given_the_secrets_that_it_needs_and_asks_for_no_other() -> None:
    """`docker compose up serve` without a password of the database: it has no use for one."""
    given = {
        name: {key for key in service.get("environment", {}) if SECRET.search(key)}
        for name, service in COMPOSE["services"].items()
    }
    assert given == {
        "study": {"POSTGRES_PASSWORD"},
        "sweep": {"PGPASSWORD", "WANDB_API_KEY"},
        "train": {"WANDB_API_KEY"},
        "dashboard": {"PGPASSWORD"},
        "serve": {"VAESWEEP_TOKEN"},
    }
    assert "depends_on" not in COMPOSE["services"]["serve"]
    # Compose fills in the whole file, whatever is started.
    assert re.findall(r"\$\{\w+:?\?", (ROOT / "compose.yaml").read_text()) == []


def test_a_mistake_is_said_and_not_repeated_for_ever() -> None:
    restarts = {name: s["restart"] for name, s in COMPOSE["services"].items() if "restart" in s}
    assert restarts == dict.fromkeys(("study", "sweep", "dashboard", "serve"), "on-failure:3")


def test_a_service_that_is_stopped_has_the_time_that_it_needs() -> None:
    seconds = {
        name: sum(int(n) * {"m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)(\w)", text))
        for name, service in COMPOSE["services"].items()
        if (text := service.get("stop_grace_period"))
    }
    script = (ROOT / "deploy/slurm/sweep.sbatch").read_text()
    (checkpoint,) = re.findall(r"--signal=B:TERM@(\d+)", script)
    assert seconds["sweep"] == seconds["train"] == int(checkpoint)
    assert seconds["serve"] > Settings().timeout + END_SECONDS  # requests end


def test_the_service_has_bounds_of_memory_and_of_temporary_files() -> None:
    service = COMPOSE["services"]["serve"]
    assert service["read_only"] is True
    (temporary,) = service["tmpfs"]
    assert re.fullmatch(r"/tmp:size=\d+m,mode=1777", temporary)
    assert service["mem_limit"] == "1g"


def test_services_are_built_from_the_stages_and_wait_for_what_they_need() -> None:
    services = COMPOSE["services"]
    built = {name: s["build"]["target"] for name, s in services.items() if "build" in s}
    assert built == {"sweep": "train", "train": "train", "dashboard": "train", "serve": "serve"}
    for name in ("sweep", "dashboard"):
        assert services[name]["depends_on"] == {"study": {"condition": "service_healthy"}}
    assert services["study"]["healthcheck"]["test"][1] == "pg_isready"


def test_volumes_are_where_the_train_image_can_write() -> None:
    (made,) = (text for text in stages()["train"].all("RUN") if text.startswith("install"))
    targets = {default(volume).split(":")[1] for volume in COMPOSE["services"]["sweep"]["volumes"]}
    assert targets == {"/photos", *(f"/app/{folder}" for folder in made.split()[-2:])}


def default(text: str) -> str:
    """What compose makes of a value when no variable is set."""
    return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", text)


def test_the_service_is_started_with_flags_that_it_has() -> None:
    entry = json.loads(stages()["serve"].last("ENTRYPOINT"))[3:]
    own = json.loads(stages()["serve"].last("CMD"))
    for command in (own, COMPOSE["services"]["serve"]["command"]):
        arguments = options([*entry, *map(default, command)])
        assert arguments.host == "0.0.0.0"
        assert f"else {arguments.port})" in health_command()[-1]
    assert stages()["serve"].last("EXPOSE") == str(arguments.port)


def run(command: list[str] | str, directory: Path, **environment: str) -> Any:
    """A command as an image's shell or entry would run it: its `python` is the environment's."""
    shell = isinstance(command, str)
    env = {**os.environ, **environment}
    return subprocess.run(
        command, shell=shell, cwd=directory, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The serving image's directory, and the PATH of a clean environment, made by its own steps."""
    root = tmp_path_factory.mktemp("image")
    app, environment = root / "app", root / "venv"
    app.mkdir()
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for kind, text in stages()["serve"].steps:
        if kind == "COPY":
            copy(text, app)
        elif kind == "RUN" and INSTALL in text:
            # An empty index, so that the builder's own settings say where torch comes from.
            # Most of what is installed is never imported here: it need not be compiled.
            text = text.replace("https://download.pytorch.org/whl/cpu", app.as_uri())
            done = run(text, app, PATH=path, PIP_NO_COMPILE="1")
            if "No matching distribution found for torch" in done.stderr:
                missing("needs torch without CUDA, such as of PIP_EXTRA_INDEX_URL")
            if _UNREACHABLE.search(done.stderr) and done.returncode != 0:
                missing("needs a package index that answers")
            assert done.returncode == 0, done.stderr[-3000:]
    yield app, path
    shutil.rmtree(root)  # more than a gigabyte


def copy(text: str, app: Path) -> None:
    """What COPY does."""
    *sources, target = text.split()
    for source in sources:
        if (ROOT / source).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, app / target, ignore=unwanted)
        else:
            (app / target).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, app / target / Path(source).name)


@pytest.mark.slow
def test_the_serving_image_serves_and_knows_whether_it_does(
    image: tuple[Path, str], trained: Path, tmp_path: Path
) -> None:
    app, path = image
    listed = json.loads(run("python -m pip list --format json", app, PATH=path).stdout)
    installed = {package["name"].lower() for package in listed}
    assert {"torch", "fastapi", "uvicorn"} <= installed
    training = {"hydra-core", "optuna", "wandb", "pytorch-lightning", "kornia", "monai"}
    assert not installed & (training | {"scipy", "torchmetrics"})
    assert run("python -m pip check", app, PATH=path).returncode == 0

    mistaken = run("python -m serving.app --checkpoint nothing", app, PATH=path)
    assert mistaken.returncode == 2
    assert mistaken.stderr.startswith("error: `--checkpoint` must name")

    port = free_port()
    entry = json.loads(stages()["serve"].last("ENTRYPOINT"))
    command = [*entry, "--checkpoint", str(trained), "--port", str(port)]
    with running(command, tmp_path, {"PATH": path}, cwd=app) as service:
        # In a container the service is the first process.
        words = health_command()
        check = [word.replace("/proc/1/", f"/proc/{service.process.pid}/") for word in words]
        assert check != words
        assert run(check, app, PATH=path).returncode == 0, "on the port that was given"
        with service.client() as client:
            assert client.post("/v1/generate", json={"seed": 1}).headers["x-seed"] == "1"
            photo = client.post("/v1/reconstruct?format=json", files={"photos": encoded()})
            assert photo.json()["metrics"][0]["psnr"] > 0
            for page in ("/", "/docs", "/metrics", "/v1/model"):
                assert client.get(page).status_code == 200
    assert run(check, app, PATH=path).returncode != 0
