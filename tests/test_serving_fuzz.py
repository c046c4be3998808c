"""The API fed whatever its own description allows, and what it does not.

A longer run, against a service: schemathesis run http://127.0.0.1:8000/openapi.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode

from serving.api.service import create
from serving.api.settings import Settings
from serving.model.checkpoints import load
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

OPERATIONS = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/model"),
    ("POST", "/v1/generate"),
    ("POST", "/v1/decode"),
    ("POST", "/v1/encode"),
    ("POST", "/v1/reconstruct"),
    ("POST", "/v1/interpolate"),
]

UNSAYABLE = [schemathesis.checks.positive_data_acceptance]
"""OpenAPI cannot say that bytes are a photo, nor the limits that a service was started with."""


@pytest.fixture(scope="module")
def description(trained: Path) -> Any:
    app = create(load(trained), Settings(max_images=16, timeout=PATIENCE))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_route_is_described(description: Any) -> None:
    found = {(o.ok().method.upper(), o.ok().path) for o in description.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        pytest.param(method, path, mode, id=f"{path} {mode.value}")
        for method, path in OPERATIONS
        for mode in GenerationMode
        if method == "POST" or mode == GenerationMode.POSITIVE  # the others take nothing
    ],
)
def test_every_answer_is_one_that_the_description_promises(
    description: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = description[path][method]

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=10 if method == "POST" else 2,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def check(case: schemathesis.Case[Any]) -> None:
        response = case.call()
        # A body that is too large is refused as such, which schemathesis does not count as refused.
        refused = [schemathesis.checks.negative_data_rejection]
        unsayable = UNSAYABLE + (refused if response.status_code == 413 else [])
        case.validate_response(response, excluded_checks=unsayable)

    check()
