"""What is under deploy/: understood by the programs that it is for, and full of real commands."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
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

from serving.api.settings import Settings, options
from serving.server import END_SECONDS
from tests.conftest import TINY
from tests.servers import missing
from tests.shipping import ROOT, VARIABLES, documents, filled, lint
from tests.waiting import PATIENCE

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
TEMPLATES = ["ray/cluster.yaml", "google/vertex.yaml", "google/run.yaml"]
TEMPLATES += [f"kubernetes/{name}.yaml" for name in ("outputs", "sweep", "serve", "scrape")]
TEMPLATES = [f"deploy/{name}" for name in TEMPLATES]
GUIDE = "docs/deploy.md"


def test_every_yaml_file_is_as_the_linter_wants_it() -> None:
    files = ["compose.yaml", "dvc.yaml", "params.yaml", ".yamllint.yaml", "deploy", ".github"]
    assert lint("yamllint", "--strict", *files) == ""


def test_every_script_is_as_the_linter_wants_it() -> None:
    assert lint("shellcheck", "deploy/slurm/sweep.sbatch", "deploy/lock.sh", ".ci/run") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-workflows", [".github/workflows/ci.yml", ".github/workflows/images.yml"]),
        ("dependabot", [".github/dependabot.yml"]),
        ("cloudbuild", ["deploy/google/cloudbuild.yaml"]),
    ],
)
def test_what_builds_is_understood(schema: str, paths: list[str]) -> None:
    assert lint("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths) == ""


def manifests() -> list[Any]:
    found = [doc for path in TEMPLATES for doc in documents(path) if "kubernetes/" in path]
    found = [document for document in found if "kind" in document]
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
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"requests", "limits"} <= container["resources"].keys()


def pod(path: str) -> Any:
    return documents(f"deploy/{path}")[0]["spec"]["template"]["spec"]


def variables(container: Any) -> dict[str, Any]:
    return {variable["name"]: variable for variable in container["env"]}


def test_pods_are_not_all_in_one_place_nor_all_gone_at_once() -> None:
    deployment, *others = documents("deploy/kubernetes/serve.yaml")
    own = deployment["spec"]["selector"]
    (budget,) = (found for found in others if found["kind"] == "PodDisruptionBudget")
    assert budget["spec"] == {"maxUnavailable": 1, "selector": own}
    (spread,) = pod("kubernetes/serve.yaml")["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"] == own
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster may have one node"


@pytest.mark.parametrize("path", ["kubernetes/serve.yaml", "google/run.yaml"])
def test_a_probe_waits_as_long_as_a_busy_service_may_take(path: str) -> None:
    (container,) = pod(path)["containers"]
    probes = {name: probe for name, probe in container.items() if name.endswith("Probe")}
    assert len(probes) >= 2
    for name, probe in probes.items():
        assert probe.get("timeoutSeconds", 1) >= 5, name


@pytest.mark.parametrize(
    ("where", "peer", "clients"),
    [
        ("cloud run", "169.254.169.126", {"198.51.100.7", "2001:db8::7"}),
        ("kubernetes", "10.244.3.9", {"198.51.100.7", "2001:db8::7"}),
        ("compose", "172.18.0.1", {"198.51.100.7", "2001:db8::7"}),
        ("compose", "192.168.1.20", {"192.168.1.20"}),
        ("kubernetes", "10.0.0.20", {"10.0.0.20"}),
    ],
)
def test_clients_behind_the_proxy_are_told_apart_and_none_can_be_another(
    where: str, peer: str, clients: set[str]
) -> None:
    """Or drift has no photos to go by, or one client can move it."""
    from starlette.types import Receive, Scope, Send
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    name = "FORWARDED_ALLOW_IPS"
    if where == "compose":
        value = COMPOSE["services"]["serve"]["environment"][name]
        trusted = re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
    else:
        path = {"cloud run": "google/run.yaml", "kubernetes": "kubernetes/serve.yaml"}[where]
        trusted = variables(pod(path)["containers"][0])[name]["value"]
    assert trusted != "*", "which takes the first address of the header, the client's own word"
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"][0])

    for client in ("198.51.100.7", "2001:db8::7"):
        header = (b"x-forwarded-for", f"203.0.113.1, {client}".encode())
        scope = {"type": "http", "client": (peer, 1), "headers": [header]}
        asyncio.run(ProxyHeadersMiddleware(app, trusted)(scope, None, None))  # type: ignore[arg-type]
    assert set(seen) == clients


def test_a_pod_that_goes_is_left_by_requests_before_it_ends() -> None:
    spec = pod("kubernetes/serve.yaml")
    (container,) = spec["containers"]
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    # serving.app lets requests end for its time limit and some seconds more.
    assert spec["terminationGracePeriodSeconds"] >= int(seconds) + Settings().timeout + END_SECONDS
    assert pod("kubernetes/sweep.yaml")["terminationGracePeriodSeconds"] == 120


@pytest.mark.parametrize("path", ["kubernetes/serve.yaml", "google/run.yaml"])
def test_a_slow_start_is_no_reason_to_kill_and_a_model_is_one_trial(path: str) -> None:
    (container,) = pod(path)["containers"]
    startup = container["startupProbe"]
    assert startup["httpGet"]["path"] == "/readyz"
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["resources"]["limits"]["memory"] == "1Gi"
    comment = re.sub("\n# ", " ", (ROOT / "deploy" / path).read_text())
    assert re.search("CHECKPOINT: one trial", comment), "a sweep's best may change between starts"


def test_uploads_fill_no_disk_of_the_node_and_fit_their_volume() -> None:
    (volume,) = (v for v in pod("kubernetes/serve.yaml")["volumes"] if v["name"] == "tmp")
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert COMPOSE["services"]["serve"]["tmpfs"] == ["/tmp:size=256m,mode=1777"]
    # Two of the largest are taken at once, and a small one of each connection besides.
    settings = Settings()
    assert 2 * settings.max_bytes + settings.max_connections * 2**16 <= 256 * 2**20


def test_prometheus_reads_every_pod_with_the_token(tmp_path: Path) -> None:
    path = tmp_path / "scrape.yaml"
    path.write_text(filled("deploy/kubernetes/scrape.yaml"))
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("needs promtool; on Debian: apt-get install prometheus")
    assert promtool is not None
    command = [promtool, "check", "config", "--syntax-only", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (job,) = yaml.safe_load(path.read_text())["scrape_configs"]
    (here,) = yaml.safe_load((ROOT / "serving/monitoring/prometheus.yml").read_text())[
        "scrape_configs"
    ]
    assert job["job_name"] == here["job_name"]
    deployment, pods = (
        found
        for found in documents("deploy/kubernetes/serve.yaml")
        if found["kind"] == "Deployment" or found["metadata"]["name"].endswith("-pods")
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    token = variables(container)["VAESWEEP_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert "optional" not in token, "or a secret whose name is misspelt is an open service"
    wanted = f"secrets/{token['name']}/{token['key']}"
    assert job["authorization"]["credentials_file"].endswith(wanted)
    (found,) = job["dns_sd_configs"]
    assert found["names"] == [f"{pods['metadata']['name']}.default.svc"]
    assert found["port"] == container["ports"][0]["containerPort"]
    assert pods["spec"]["clusterIP"] == "None", "an address for each pod"
    assert pods["spec"]["publishNotReadyAddresses"] is True, "as one that is not ready is an alert"


def test_a_sweep_reads_photos_that_it_cannot_change() -> None:
    spec = pod("kubernetes/sweep.yaml")
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["photos"]["readOnly"] is True
    assert {"data=images", f"data.root={mounts['photos']['mountPath']}"} <= set(container["args"])
    # All else is read-only, but for what the image lets anybody write to and temporary files.
    assert {mount["mountPath"] for mount in mounts.values() if "readOnly" not in mount} == {
        "/app/outputs", "/app/.cache", "/tmp",
    }  # fmt: skip


@pytest.mark.slow
def test_what_may_pass_costs_a_job_no_try_and_a_mistake_ends_it(tmp_path: Path) -> None:
    (job,) = documents("deploy/kubernetes/sweep.yaml")
    evicted, passing, mistaken = job["spec"]["podFailurePolicy"]["rules"]
    assert evicted["action"] == "Ignore"
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    (worker,) = pod("kubernetes/sweep.yaml")["containers"]
    for rule, action in ((passing, "Ignore"), (mistaken, "FailJob")):
        assert rule["action"] == action
        assert rule["onExitCodes"]["operator"] == "In"
        assert rule["onExitCodes"]["containerName"] == worker["name"]
    assert not {1, 130, 137, 143} & set(mistaken["onExitCodes"]["values"]), "another pod may do it"
    for argument, rule in (
        ("hydra.sweeper.storage=postgresql://vaesweep@127.0.0.1:1/vaesweep", passing),
        ("lr=-1", mistaken),
        ("--no-such-option", mistaken),
    ):
        command = [sys.executable, "run.py", "-m", "loss=mse,l1", argument, *TINY]
        command += [f"hydra.sweep.dir={tmp_path / 'sweep'}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert [done.returncode] == rule["onExitCodes"]["values"], done.stderr


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
    log = tmp_path / "Ann's studies" / "study.log"
    log.parent.mkdir()
    project = tmp_path / "Ann's project"
    project.symlink_to(ROOT)
    environment = {
        **os.environ,
        "SLURM_SUBMIT_DIR": str(project),
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
