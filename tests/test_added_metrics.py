"""A metric from outside that is wrong is told before training, or costs its own number only."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import metrics
from experiments.errors import TrialError, UserError
from experiments.metrics import Metric, Subject
from experiments.metrics.reconstruction import reconstruction_metrics
from experiments.record import read_result
from experiments.trial import run_trial
from sweeps.workers.trying import try_parts
from tests.additions import edges
from tests.conftest import Compose

HERE = __name__
Added = Callable[[str, Subject], str]


def as_numpy(x_hat: Any, x: Any) -> Any:
    return np.zeros(len(x))


def as_text(samples: Any, real: Any) -> Any:
    return "good"


def nan_of_each(x_hat: Any, x: Any) -> Any:
    return torch.full((len(x),), torch.nan)


def late(samples: Any, real: Any) -> Any:
    """Works on the few images on which it is tried."""
    assert len(samples) < 10, "too many"
    return 1.0


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Added:
    def add(function: str, subject: Subject) -> str:
        one = Metric(function, function, "minimize", "", None, "", subject, f"{HERE}:{function}")
        monkeypatch.setitem(metrics.METRICS, function, one)
        return function

    return add


@pytest.mark.parametrize(
    ("function", "subject", "message"),
    [
        ("tpyo", "samples", "`tpyo` must be a function.*imported.*:tpyo gives AttributeError"),
        ("as_numpy", "reconstructions", r"`as_numpy`.*each image, \(3,\), but.*ndarray"),
        ("as_text", "samples", "`as_text` must give a number, but .*:as_text gave str"),
        ("as_text", "posterior", "`as_text` .*:as_text gives TypeError"),
    ],
)
def test_a_metric_is_tried_before_training(
    function: str, subject: Subject, message: str, added: Added, tiny: Compose, tmp_path: Path
) -> None:
    added(function, subject)
    with pytest.raises(UserError, match=message):
        run_trial(tiny(), tmp_path / "record")
    assert not (tmp_path / "record").exists()
    with pytest.raises(UserError, match=message):
        try_parts([tiny()], None)


def test_what_is_no_number_at_the_end_costs_its_metric_only(
    added: Added, tiny: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = added("nan_of_each", "reconstructions"), added("late", "samples")
    run_trial(tiny("max_epochs=1"), tmp_path)
    result = read_result(tmp_path)
    assert result["status"] == "completed"
    assert [result["metrics"]["val"][name] for name in names] == [None, None]
    assert result["objective"]["values"] == [result["metrics"]["val"]["psnr"]]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("late` must be" in line and "too many" in line for line in told) == 1
    assert sum("nan_of_each, late that is NaN or infinite, and null" in line for line in told) == 1


def test_an_objective_that_is_no_number_fails_its_trial(
    added: Added, tiny: Compose, tmp_path: Path
) -> None:
    name = added("nan_of_each", "reconstructions")
    with pytest.raises(TrialError, match="gives nan_of_each that is NaN"):
        run_trial(tiny("max_epochs=1", f"objective={name}"), tmp_path)


def test_one_function_may_serve_several_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        one = Metric(
            name, name, "minimize", "", None, "", "reconstructions", "tests.additions:edges"
        )
        monkeypatch.setitem(metrics.METRICS, name, one)
    x_hat, x = torch.rand(2, 3, 3, 32, 32)
    found = reconstruction_metrics(x_hat, x, strict=True)
    assert torch.equal(found["first"], edges(x_hat, x))
    assert torch.equal(found["second"], edges(x_hat, x))


def test_the_service_and_the_analysis_do_without_such_a_metric(
    added: Added, tiny: Compose, tmp_path: Path
) -> None:
    import httpx

    from analysis.load import load as load_runs
    from analysis.trained.scores import score
    from serving.api.service import create
    from serving.api.settings import Settings
    from serving.model.checkpoints import load

    run_trial(tiny("max_epochs=1"), tmp_path, in_sweep=True)
    name = added("nan_of_each", "reconstructions")
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "grey").save(picture, "PNG")
    app = create(load(str(tmp_path)), Settings())

    async def asked() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            files = {"photos": ("grey.png", picture.getvalue())}
            return (await client.post("/v1/reconstruct?format=json", files=files)).json()

    (row,) = asyncio.run(asked())["metrics"]
    assert row[name] is None
    assert row["psnr"] > 0
    (values,) = score(load_runs(str(tmp_path))).values.values()
    assert "psnr" in values
    assert name not in values
