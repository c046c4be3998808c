"""Alerts and dashboard ask for what the service measures, and the alerts fire when they should."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.api.service import create
from serving.api.settings import Settings
from serving.encoding import png
from serving.model.checkpoints import load
from serving.monitoring.telemetry import OBJECTIVE_SECONDS
from tests.conftest import ROOT
from tests.servers import missing
from tests.waiting import PATIENCE

MONITORING = ROOT / "serving" / "monitoring"
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus itself adds."""
SELECTOR = re.compile(r"\b((?:vaesweep|process)_[a-z_]+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where each is, and what it asks for."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def exposed(trained: Path) -> dict[str, set[str]]:
    """The labels of every metric of a service that has answered requests, and refused one."""
    app = create(load(trained), Settings(timeout=PATIENCE))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    photos = [("photos", png(image)) for image in pixels]

    async def ask() -> str:
        for number in range(9):
            transport = httpx.ASGITransport(app=app, client=(f"10.0.0.{number}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                assert (await client.post("/v1/reconstruct", files=photos)).status_code == 200
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            assert (await client.post("/v1/generate", json={"count": 0})).status_code == 422
            return (await client.get("/metrics")).text

    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(asyncio.run(ask())):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_what_is_asked_for_is_exposed(
    exposed: dict[str, set[str]], where: str, expression: str
) -> None:
    selectors = SELECTOR.findall(expression)
    assert selectors or re.search(r"vaesweep:fast_answers|\bup\{", expression), where
    for name, matchers in selectors:
        assert name in exposed, f"{where} asks for {name}"
        asked = set(re.findall(r"(\w+)\s*[=!]~?\s*\"", matchers))
        assert asked <= exposed[name] | OF_PROMETHEUS, f"{where} asks for {asked} of {name}"


def test_the_objective_is_the_same_everywhere(exposed: dict[str, set[str]]) -> None:
    asked = {le for _, expr in expressions() for le in re.findall(r'le="([^"]+)"', expr)}
    assert asked == {str(OBJECTIVE_SECONDS)}
    assert "le" in exposed["vaesweep_request_seconds_bucket"]


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 5
    for alert in alerts:
        assert set(alert["annotations"]) == {"summary", "remedy"}
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["for"]


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_prometheus_own_tool_accepts_it(command: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("needs promtool; on Debian: apt-get install prometheus")
    assert promtool is not None
    done = subprocess.run(
        [promtool, *command], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
