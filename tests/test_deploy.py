"""What is under deploy/: understood by the programs that it is for, and full of real commands."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from serving.api.settings import options
from tests.conftest import TINY
from tests.shipping import ROOT, VARIABLES, documents, filled, lint
from tests.waiting import PATIENCE

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
TEMPLATES = ["ray/cluster.yaml", "google/vertex.yaml", "google/run.yaml"]
TEMPLATES += [f"kubernetes/{name}.yaml" for name in ("outputs", "sweep", "serve")]
TEMPLATES = [f"deploy/{name}" for name in TEMPLATES]
GUIDE = "docs/deploy.md"


def test_every_yaml_file_is_as_the_linter_wants_it() -> None:
    files = ["compose.yaml", "dvc.yaml", "params.yaml", ".yamllint.yaml", "deploy", ".github"]
    assert lint("yamllint", "--strict", *files) == ""


def test_every_script_is_as_the_linter_wants_it() -> None:
    assert lint("shellcheck", "deploy/slurm/sweep.sbatch", ".ci/run") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-workflows", ".github/workflows/images.yml"),
        ("cloudbuild", "deploy/google/cloudbuild.yaml"),
    ],
)
def test_what_builds_is_understood(schema: str, path: str) -> None:
    assert lint("check-jsonschema", "--builtin-schema", f"vendor.{schema}", path) == ""


def manifests() -> list[Any]:
    found = [doc for path in TEMPLATES if "kubernetes" in path for doc in documents(path)]
    # Cloud Run's containers are those of Kubernetes.
    (service,) = documents("deploy/google/run.yaml")
    pod = service["spec"]["template"]["spec"]
    kept = {name: value for name, value in pod.items() if name in ("containers", "volumes")}
    for container in kept["containers"]:
        container["name"] = "serve"
    return [*found, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": kept}]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda m: m["kind"])
def test_kubernetes_understands_every_field(manifest: Any) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    planted = {**manifest, "spec": {**manifest["spec"], "replicsa": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(planted, "1.31", strict=True)


@pytest.mark.parametrize("name", ["sweep", "serve"])
def test_pods_have_no_more_rights_than_they_need(name: str) -> None:
    spec = documents(f"deploy/kubernetes/{name}.yaml")[0]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= container["resources"].keys()


def test_ray_understands_the_cluster() -> None:
    import json

    import ray

    path = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    (cluster,) = documents("deploy/ray/cluster.yaml")
    jsonschema.validate(cluster, json.loads(path.read_text()))
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert cluster["max_workers"] == 3


@pytest.mark.parametrize("path", TEMPLATES)
def test_what_is_somebodys_own_is_a_variable_that_the_file_and_the_guide_explain(path: str) -> None:
    text = (ROOT / path).read_text()
    used = set(string.Template(text).get_identifiers()) - {"RAY_HEAD_IP"}
    assert used
    assert used <= VARIABLES.keys()
    comment = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    guide = (ROOT / GUIDE).read_text()
    for name in used:
        assert re.search(rf"\b{name}\b", comment), f"{name} must be explained in {path}"
        assert re.search(rf"\b{name}=", guide), f"{name} must be set in {GUIDE}"
    assert path in guide


def test_the_service_is_started_with_flags_that_it_has() -> None:
    deployment = documents("deploy/kubernetes/serve.yaml")[0]
    (run,) = documents("deploy/google/run.yaml")
    for owner in (deployment, run):
        (container,) = owner["spec"]["template"]["spec"]["containers"]
        arguments = options(container["args"])
        assert arguments.port == container["ports"][0]["containerPort"]
        (mount, *_) = container["volumeMounts"]
        assert arguments.checkpoint.startswith(mount["mountPath"] + "/")


def test_the_guide_explains_every_variable_of_compose() -> None:
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    explained = re.findall(r"`(\w+)`", (ROOT / GUIDE).read_text())
    assert names <= set(explained)


def test_no_placeholder_is_left_when_all_are_set() -> None:
    for path in TEMPLATES:
        assert set(re.findall(r"\$\{?(\w+)", filled(path))) <= {"RAY_HEAD_IP"}


@pytest.mark.slow
def test_the_jobs_of_a_slurm_array_share_the_trials(tmp_path: Path) -> None:
    log = tmp_path / "study.log"
    environment = {
        **os.environ,
        "SLURM_SUBMIT_DIR": str(ROOT),
        "PYTHON": sys.executable,
        "STORAGE": f"journal://{log}",
    }
    search = ["name=array", *TINY, "max_epochs=1", "loss=mse,l1,ssim", "report=none"]
    command = ["deploy/slurm/sweep.sbatch", *search, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    jobs = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [job.communicate(timeout=PATIENCE)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    storage = JournalStorage(JournalFileBackend(str(log), JournalFileOpenLock(str(log))))
    trials = optuna.load_study(study_name="array", storage=storage).trials
    assert sorted(trial.params["loss"] for trial in trials) == ["l1", "mse", "ssim"]
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}


def test_the_slurm_script_wants_to_know_what_to_search() -> None:
    done = subprocess.run(
        ["deploy/slurm/sweep.sbatch"],
        cwd=ROOT,
        env={**os.environ, "SLURM_SUBMIT_DIR": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "for example sweep=full, but got nothing" in done.stderr
