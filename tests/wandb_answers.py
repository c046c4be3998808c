"""The answers of the stand-in for the W&B server to the client's operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.wandb_state import ENTITY, Agent, Json, Run, Sweep

_HISTORY, _SUMMARY, _EVENTS = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl"

_OPERATIONS: dict[str, Callable[..., Json]] = {}


def _operation(*names: str) -> Callable[[Callable[..., Json]], Callable[..., Json]]:
    """A method is the answer to the operations of these names."""

    def registered(method: Callable[..., Json]) -> Callable[..., Json]:
        _OPERATIONS.update(dict.fromkeys(names, method))
        return method

    return registered


class Answers:
    """The server without its port.

    Attributes:
        runs: by their ids.
        sweeps: by their ids.
        artifacts: what clients said of each, with its `files` and whether it is `committed`.
        unknown: operations, paths and filters that the server did not know.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.artifacts: list[Json] = []
        self.unknown: list[str] = []
        self._agents: dict[str, Agent] = {}
        self._stopping: set[str] = set()

    def graphql(self, name: str, variables: Json) -> Json:
        """Answer an operation."""
        if name not in _OPERATIONS:
            raise LookupError(f"the stand-in does not know {name} with {sorted(variables)}")
        return _OPERATIONS[name](self, **variables)

    # Who is there

    @_operation("Viewer", "GetViewer", "GetDefaultEntity")
    def _viewer(self, **_: Any) -> Json:
        names = dict.fromkeys(("name", "entity", "username"), ENTITY)
        viewer: Json = {"__typename": "User", "id": "1", "email": "tester@example.org", **names}
        viewer |= {"flags": "{}", "admin": False, "deletedAt": None, "organizations": []}
        return {"viewer": {**viewer, "teams": {"edges": []}, "apiKeys": {"edges": []}}}

    @_operation("ServerFeaturesQuery")
    def _server_features_query(self, **_: Any) -> Json:
        return {"serverInfo": {"features": []}}

    @_operation("OrganizationCoreWeaveOrganizationID")
    def _organization_core_weave_organization_i_d(self, **_: Any) -> Json:
        return {"entity": {"organization": None}}

    @_operation("XXHashDigestsEnabled")
    def _xxhash_digests_enabled(self, **_: Any) -> Json:
        return {"entity": {"xxhashDigestsEnabled": False}}

    # Runs

    @_operation("RunResumeStatus")
    def _run_resume_status(self, *, name: str, **_: Any) -> Json:
        run = self.runs.get(name)
        entity = {"id": "1", "name": ENTITY}
        model = {"id": "1", "name": run.project if run else "", "entity": entity}
        return {"model": {**model, "bucket": run.node() if run else None}}

    @_operation("UpsertBucket")
    def _upsert_bucket(self, **given: Any) -> Json:
        name, number = given.get("name"), given.get("id")
        run = self.runs.get(name or "") or self._numbered(number)
        inserted = run is None
        if run is None:
            assert name
            entity = given.get("entity") or ENTITY
            run = Run(entity, given.get("project") or "uncategorized", name, len(self.runs))
            self.runs[name] = run
        if name:  # otherwise it is an update
            run.state, run.exit_code = "running", None
        if given.get("config"):
            run.raw_config |= json.loads(given["config"])
        if given.get("summaryMetrics"):
            run.summary = json.loads(given["summaryMetrics"])
        run.name = given.get("displayName") or run.name or run.id
        run.group = given.get("groupName") or run.group
        run.tags = given.get("tags") or run.tags
        run.commit = given.get("commit") or run.commit
        run.sweep = given.get("sweep") or run.sweep
        return {"upsertBucket": {"bucket": run.node(), "inserted": inserted}}

    def _numbered(self, number: str | None) -> Run | None:
        return next((r for r in self.runs.values() if f"run-{r.number}" == number), None)

    @_operation("CreateRunFiles")
    def _create_run_files(self, *, entity: str, project: str, run: str, files: list[str]) -> Json:
        urls = [{"name": n, "uploadUrl": f"{self.url}/upload/run/{run}/{n}"} for n in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": urls}}

    @_operation("MarkRunFilesUploaded")
    def _mark_run_files_uploaded(self, **_: Any) -> Json:
        return {"markRunFilesUploaded": {"success": True}}

    def stream(self, run_id: str, sent: Json) -> Json:
        """Take a piece of a run's file stream."""
        run = self.runs[run_id]
        for name, piece in sent.get("files", {}).items():
            content = piece["content"]
            if name in (_HISTORY, _EVENTS):
                rows = run.rows if name == _HISTORY else run.events
                rows[piece["offset"] :] = [json.loads(line) for line in content]
            elif name == _SUMMARY:
                run.summary = json.loads(content[-1])
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode", 0)
            run.state = "finished" if run.exit_code == 0 else "failed"
        stopped = {"stopped": True} if run.stopped else {}
        return {"exitcode": None, "limits": {}, **stopped}

    # The public API's view of them

    @_operation("Runs")
    def _runs(self, *, project: str, entity: str, **given: Any) -> Json:
        condition = json.loads(given.get("filters") or "{}")
        found = [r for r in self.runs.values() if (r.entity, r.project) == (entity, project)]
        found = [run for run in found if self._matches(run, condition)]
        if (given.get("order") or "+").startswith("-"):
            found.reverse()
        first = int(given.get("cursor") or 0)
        page = found[first : first + int(given.get("perPage") or 50)]
        edges = [{"node": r.node(), "cursor": str(first + i + 1)} for i, r in enumerate(page)]
        last = first + len(page)
        return {
            "project": {
                "internalId": "1",
                "runCount": len(found),
                "readOnly": False,
                "runs": {
                    "edges": edges,
                    "pageInfo": {"endCursor": str(last), "hasNextPage": last < len(found)},
                },
            }
        }

    def _matches(self, run: Run, condition: Mapping[str, Any]) -> bool:
        def holds(key: str, wanted: Any) -> bool:
            if key == "$and":
                return all(self._matches(run, c) for c in wanted)
            if key == "$or":
                return any(self._matches(run, c) for c in wanted)
            known = {"sweep": run.sweep, "group": run.group, "state": run.state, "name": run.id}
            if key not in known:
                self.unknown.append(f"filter {key}")
            if isinstance(wanted, Mapping):
                return known.get(key) in wanted["$in"]
            return bool(known.get(key) == wanted)

        return all(holds(key, wanted) for key, wanted in condition.items())

    def _of_run(self, **values: Any) -> Json:
        return {"project": {"run": values}}

    @_operation("Run", "RunHistoryKeys", "RunState")
    def _run(self, *, name: str, **_: Any) -> Json:
        run = self.runs.get(name)
        return {"project": {"run": run.node() if run else None}}

    @_operation("RunFullHistory")
    def _run_full_history(self, *, name: str, **_: Any) -> Json:
        run = self.runs[name]
        lines = [[json.dumps(row) for row in rows] for rows in (run.rows, run.events)]
        return self._of_run(history=lines[0], events=lines[1])

    @_operation("RunSampledHistory", "SampledHistoryPage")
    def _run_sampled_history(self, **given: Any) -> Json:
        run = self.runs[given.get("name") or given["run"]]
        specs = [json.loads(spec) for spec in given.get("specs") or [given["spec"]]]
        return self._of_run(sampledHistory=[_sample(run, **spec) for spec in specs])

    @_operation("RunParquetHistory")
    def _run_parquet_history(self, **_: Any) -> Json:
        return self._of_run(parquetHistory={"parquetUrls": [], "liveData": None})

    @_operation("HistoryPage")
    def _history_page(self, *, run: str, **given: Any) -> Json:
        first, end = given["minStep"], given["maxStep"]
        rows = [r for r in self.runs[run].rows if first <= r["_step"] < end]
        return self._of_run(history=[json.dumps(row) for row in rows])

    @_operation("GetProject")
    def _get_project(self, *, name: str, **_: Any) -> Json:
        return {"project": {"id": "1", "internalId": "1", "name": name, "entityName": ENTITY}}

    # Artifacts

    @_operation("CreateArtifact")
    def _create_artifact(self, **given: Any) -> Json:
        number = f"artifact-{len(self.artifacts)}"
        self.artifacts.append({**given["input"], "id": number, "files": {}, "committed": False})
        sequence = {"id": "1", "latestArtifact": None}
        artifact = {"id": number, "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    @_operation("ArtifactType")
    def _artifact_type(self, **_: Any) -> Json:
        return {"project": {"artifact": None}}

    @_operation("FetchArtifactDigestAlgorithm")
    def _fetch_artifact_digest_algorithm(self, **_: Any) -> Json:
        return {"project": {"artifactType": {"artifactCollection": None}}}

    @_operation("CreateArtifactManifest")
    def _create_artifact_manifest(self, **given: Any) -> Json:
        url = f"{self.url}/upload/artifact/{given['artifactID']}/wandb_manifest.json"
        file = {"id": "1", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "1", "file": file}}}

    @_operation("CreateArtifactFiles")
    def _create_artifact_files(self, **given: Any) -> Json:
        edges = [
            {
                "node": {
                    "storagePath": f["name"],
                    "uploadUrl": f"{self.url}/upload/artifact/{f['artifactID']}/{f['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": f["artifactID"]},
                }
            }
            for f in given["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    @_operation("CommitArtifact")
    def _commit_artifact(self, **given: Any) -> Json:
        artifact = self.artifact(given["artifactID"])
        artifact["committed"] = True
        return {"commitArtifact": {"artifact": {k: artifact[k] for k in ("id", "digest")}}}

    def artifact(self, number: str) -> Json:
        """The artifact of that id."""
        return next(a for a in self.artifacts if a["id"] == number)

    def upload(self, kind: str, owner: str, name: str, content: bytes) -> None:
        """Take a file of a run or an artifact."""
        files = self.runs[owner].files if kind == "run" else self.artifact(owner)["files"]
        files[name] = content

    # Sweeps and agents

    @_operation("UpsertSweep")
    def _upsert_sweep(self, **given: Any) -> Json:
        number = given.get("id")
        sweep = next((s for s in self.sweeps.values() if f"sweep-{s.id}" == number), None)
        if sweep is None:
            project = given.get("projectName") or "uncategorized"
            entity = given.get("entityName") or ENTITY
            sweep = Sweep(entity, project, f"sweep{len(self.sweeps)}", given["config"])
            self.sweeps[sweep.id] = sweep
        sweep.state = given.get("state") or sweep.state
        return {"upsertSweep": {"sweep": sweep.node(), "configValidationWarnings": []}}

    @_operation("SweepWithRuns")
    def _sweep_with_runs(self, *, sweep: str, **_: Any) -> Json:
        found = self.sweeps.get(sweep)
        return {"project": {"sweep": found.node() if found else None}}

    @_operation("GetSweep")
    def _get_sweep(self, *, name: str, **_: Any) -> Json:
        return self._sweep_with_runs(sweep=name)

    @_operation("GetSweepState")
    def _get_sweep_state(self, *, sweep: str, **_: Any) -> Json:
        return self._sweep_with_runs(sweep=sweep)

    @_operation("CreateAgent")
    def _create_agent(self, *, sweep: str, **_: Any) -> Json:
        number = f"agent-{len(self._agents)}"
        self._agents[number] = Agent(self.sweeps[sweep])
        return {"createAgent": {"agent": {"id": number}}}

    @_operation("Heartbeat")
    def _heartbeat(self, **given: Any) -> Json:
        number, running = given["id"], json.loads(given["runState"])
        agent = self._agents[number]
        agent.sweep.reports.append({"agent": number, "runs": running})
        commands = json.dumps(list(self._commands(agent, running)))
        return {"agentHeartbeat": {"agent": {"id": number}, "commands": commands}}

    def _commands(self, agent: Agent, running: Mapping[str, bool]) -> Iterator[Json]:
        sweep = agent.sweep
        if sweep.state == "CANCELED":
            yield {"type": "exit"}
            return
        if agent.running in running:
            if agent.running in self._stopping:
                yield {"type": "stop", "run_id": agent.running}
            return
        if not sweep.waiting:
            sweep.state = "FINISHED"
            yield {"type": "exit"}
            return
        args = sweep.waiting.pop(0)
        agent.running = f"{sweep.id}run{len(sweep.runs)}"
        sweep.runs[agent.running] = args
        given = {key: {"value": value} for key, value in args.items()}
        yield {"type": "run", "run_id": agent.running, "program": sweep.program, "args": given}


def _sample(run: Run, keys: list[str], **spec: Any) -> list[Json]:
    """The rows that hold all keys, between two steps if there are such."""
    first, end = spec.get("minStep", 0), spec.get("maxStep", float("inf"))
    rows = [row for row in run.rows if first <= row["_step"] < end]
    return [{k: row[k] for k in keys} for row in rows if all(k in row for k in keys)]
