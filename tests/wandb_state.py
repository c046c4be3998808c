"""What the stand-in for the W&B server keeps of runs, sweeps and agents."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

ENTITY = "tester"
_NOW = "2026-01-01T00:00:00Z"

Json = dict[str, Any]


@dataclass
class Run:
    """What the server knows of a run.

    Attributes:
        raw_config: with the client's own `_wandb`; see `config`.
        rows: of the history, in order.
        files: content by path, media among them.
        state: running, finished or failed.
        exit_code: that the client gave; None while it runs.
        stopped: whether the page's button was pressed.
    """

    entity: str
    project: str
    id: str
    number: int
    raw_config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    rows: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    name: str = ""
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    commit: str | None = None
    sweep: str | None = None
    stopped: bool = False

    @property
    def config(self) -> Json:
        """As `wandb.Api()` shows it."""
        return {k: v["value"] for k, v in self.raw_config.items() if k != "_wandb"}

    def metrics(self, *keys: str) -> list[tuple[Any, ...]]:
        """The rows that hold all of the keys, as tuples."""
        return [tuple(row[k] for k in keys) for row in self.rows if all(k in row for k in keys)]

    def node(self) -> Json:
        """As GraphQL gives it."""
        steps = [row["_step"] for row in self.rows if "_step" in row]
        keys: Json = {key: {"typeCounts": []} for row in self.rows for key in row}
        return {
            "__typename": "Run",
            "id": f"run-{self.number}",
            "projectId": "1",
            "name": self.id,
            "displayName": self.name,
            "description": None,
            "notes": None,
            "state": self.state,
            "exitcode": self.exit_code,
            "stopped": self.stopped,
            "shouldStop": self.stopped,
            "failed": self.state == "failed",
            "running": self.state == "running",
            "config": json.dumps(self.raw_config),
            "summaryMetrics": json.dumps(self.summary),
            "systemMetrics": "{}",
            "group": self.group,
            "jobType": None,
            "tags": self.tags,
            "commit": self.commit,
            "sweepName": self.sweep,
            "readOnly": False,
            "createdAt": _NOW,
            "heartbeatAt": _NOW,
            "user": {"name": ENTITY, "username": ENTITY},
            "historyLineCount": len(self.rows),
            "eventsLineCount": len(self.events),
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in self.rows[-1:]]),
            "eventsTail": json.dumps([json.dumps(row) for row in self.events[-1:]]),
            "historyKeys": {"lastStep": max(steps, default=-1), "keys": keys, "sets": []},
            "wandbConfig": json.dumps({"t": 1}),
            "project": {"id": "1", "name": self.project, "entity": {"id": "1", "name": ENTITY}},
        }


@dataclass
class Sweep:
    """A sweep; the server hands out the grid, or else as many random draws as `run_cap` says."""

    entity: str
    project: str
    id: str
    text: str  # the config, YAML
    state: str = "RUNNING"
    runs: dict[str, Json] = field(default_factory=dict)  # args by the run's id
    reports: list[Json] = field(default_factory=list)  # runState of the agents' heartbeats

    def __post_init__(self) -> None:
        config = yaml.safe_load(self.text)
        self.program: str = config["program"]
        parameters = config["parameters"]
        if config["method"] == "grid":
            names = {
                k: v["values"] if "values" in v else [v["value"]] for k, v in parameters.items()
            }
            cells = itertools.product(*names.values())
            self.waiting = [dict(zip(names, cell, strict=True)) for cell in cells]
        else:
            generator = random.Random(0)
            count = config.get("run_cap", 2)
            self.waiting = [
                {name: _draw(generator, spec) for name, spec in parameters.items()}
                for _ in range(count)
            ]

    def node(self) -> Json:
        config = yaml.safe_load(self.text)
        return {
            "__typename": "Sweep",
            "id": f"sweep-{self.id}",
            "name": self.id,
            "displayName": config.get("name"),
            "method": config["method"],
            "state": self.state,
            "description": None,
            "bestLoss": None,
            "config": self.text,
            "createdAt": _NOW,
            "updatedAt": _NOW,
            "heartbeatAt": _NOW,
            "earlyStopJobRunning": False,
            "controller": None,
            "scheduler": None,
            "runCount": len(self.runs),
            "runCountExpected": len(self.runs) + len(self.waiting),
            "runs": {"edges": []},
            "project": {"id": "1", "name": self.project, "entity": {"id": "1", "name": ENTITY}},
        }


@dataclass
class Agent:
    """One that asks for runs."""

    sweep: Sweep
    running: str | None = None


def _draw(generator: random.Random, spec: Mapping[str, Any]) -> Any:
    if "value" in spec:
        return spec["value"]
    if "values" in spec:
        return generator.choice(spec["values"])
    low, high = spec["min"], spec["max"]
    kind = spec.get("distribution")
    if kind == "int_uniform":
        return generator.randint(low, high)
    if kind == "q_uniform":
        return round(generator.uniform(low, high) / spec["q"]) * float(spec["q"])
    if kind == "log_uniform_values":
        return math.exp(generator.uniform(math.log(low), math.log(high)))
    return generator.uniform(low, high)
