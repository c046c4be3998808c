"""A metric from outside that is wrong is told before training, or costs its own number only."""

from __future__ import annotations

import asyncio
import io
import math
import sys
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


def complex_of_each(x_hat: Any, x: Any) -> Any:
    return torch.ones(len(x), dtype=torch.complex64)


def complex_number(samples: Any, real: Any) -> Any:
    return torch.ones((), dtype=torch.complex64)


def numpy_complex(units: Any) -> Any:
    return np.complex128(1 + 2j)


def exits(samples: Any, real: Any) -> Any:
    sys.exit("no licence")


def nan_of_noise(x_hat: Any, x: Any) -> Any:
    """Has no value where reconstructions and images have nothing in common."""
    x, x_hat = x.flatten(1), x_hat.flatten(1)
    likeness = torch.nn.functional.cosine_similarity(x - x.mean(), x_hat - x_hat.mean())
    return torch.where(likeness > 0.5, likeness, torch.nan)


def infinite(units: Any) -> Any:
    return math.inf


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
        ("complex_of_each", "reconstructions", "real numbers, a value for each.*complex64"),
        ("complex_number", "samples", "`complex_number` must give a number, but .*complex"),
        ("numpy_complex", "posterior", "`numpy_complex` must give a number, but .*complex"),
        ("exits", "samples", r"`exits` .*:exits gives .*sys\.exit\('no licence'\)"),
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


@pytest.mark.parametrize(
    ("function", "subject"), [("nan_of_each", "reconstructions"), ("infinite", "posterior")]
)
def test_an_objective_that_is_never_a_number_is_refused_before_training(
    function: str, subject: Subject, added: Added, tiny: Compose, tmp_path: Path
) -> None:
    name = added(function, subject)
    config = tiny(f"objective=[psnr,{name}]")
    message = f"objective `{name}` must give finite numbers, but .*:{name} gave (nan|inf)"
    with pytest.raises(UserError, match=message):
        run_trial(config, tmp_path / "record")
    assert not (tmp_path / "record").exists()
    with pytest.raises(UserError, match=message):
        try_parts([config], None)


def test_an_objective_that_has_no_value_for_noise_is_trained(
    added: Added, tiny: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tiny("max_epochs=1", f"objective={added('nan_of_noise', 'reconstructions')}")
    with pytest.raises(TrialError, match="gives nan_of_noise that is NaN"):
        run_trial(config, tmp_path)  # as far as it may get


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
