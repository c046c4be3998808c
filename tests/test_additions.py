"""An addition is made in one place, and then appears everywhere."""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import models
import sweeps
from analysis.comparison import checked, compare
from analysis.home import home_advantage
from analysis.load import load
from analysis.report import write
from experiments import config, metrics
from experiments.config.named import LOGGERS, SOURCES
from experiments.data.sources.opening import FILES
from experiments.errors import UserError
from experiments.record import read_history, read_result
from experiments.trial import run_trial
from tests import additions, networks
from tests.additions import HERE, METRICS
from tests.conftest import TINY, Compose
from tests.test_tensorboard import Killed, KillLater

pytestmark = pytest.mark.trains
EDGES, SPREAD, TONE = (metric.name for metric in METRICS)


@pytest.fixture(scope="module")
def added() -> Iterator[None]:
    """The three metrics, registered."""
    with pytest.MonkeyPatch.context() as patch:
        for metric in METRICS:
            patch.setitem(metrics.METRICS, metric.name, metric)
        yield


@pytest.fixture(scope="module")
def sweep(added: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over two losses with two seeds each, whose objective is a metric from outside."""
    folder = tmp_path_factory.mktemp("added")
    settings = ["name=added", *TINY, f"objective={EDGES}", "hydra.sweeper.n_jobs=0", "report=html"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAESWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.chdir(folder)
        sweeps.run([*settings, "loss=mse,ssim", "seed=0,1"])
    return folder / "outputs/added/sweep"


def test_a_metric_from_outside_is_measured_and_chooses(sweep: Path) -> None:
    result = read_result(sweep / "0")
    assert result["objective"]["names"] == [EDGES]
    assert {EDGES, SPREAD, TONE} <= result["metrics"]["val"].keys()
    assert result["objective"]["values"] == [result["metrics"]["val"][EDGES]]
    for row in read_history(sweep / "0"):
        assert {f"val/{EDGES}", f"val/{SPREAD}"} <= row.keys()
    with np.load(sweep / "0" / "validation.npz") as kept:
        assert kept[EDGES].mean() == pytest.approx(result["metrics"]["val"][EDGES])


def test_a_metric_from_outside_is_compared(sweep: Path) -> None:
    found, scores = checked(load(str(sweep)))
    assert scores is not None
    first = found.results[EDGES]
    assert first.decision is not None
    assert (first.measure.title, first.measure.unit) == ("Edge error", "levels")
    assert first.measure.margin == 0.01
    assert found.results[TONE].decision is not None
    assert found.results[SPREAD].decision is None  # neither good nor bad
    assert EDGES in found.checks
    assert EDGES in home_advantage(found, scores).values
    assert {SPREAD, TONE} <= set(scores.split_level)
    with pytest.raises(UserError, match=f"{EDGES}.*but got 'egdes'; .*put VAESWEEP_PLUGINS="):
        compare(load(str(sweep)), metrics=["egdes"])


def test_a_metric_from_outside_is_on_the_page_and_in_markdown(sweep: Path, tmp_path: Path) -> None:
    for form in ("html", "md"):
        write(load(str(sweep)), tmp_path / f"report.{form}", form=form)
        told = (tmp_path / f"report.{form}").read_text(encoding="utf-8")
        for metric in METRICS:
            assert metric.title in told


def test_a_metric_from_outside_is_in_the_terminal_and_in_wandbs_table(
    added: None,
    tiny: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from experiments.scoring.checkpoint import load_weights
    from experiments.tracking.wandb import image_table

    run_trial(tiny("max_epochs=1"), tmp_path)
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert "levels, lower is better" in lines[EDGES]
    assert TONE in lines
    assert "is better" not in lines[SPREAD]

    tables: list[Any] = []
    monkeypatch.setattr(
        "experiments.tracking.wandb.run.log_table", lambda *given: tables.append(given)
    )
    network = models.create("conv", image_shape=(3, 32, 32), latent_dim=4, width=4)
    load_weights(network, tmp_path / "checkpoints/best.ckpt")
    sample_images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    digests = np.zeros(2, dtype=np.uint64)
    logger: Any = None
    image_table.log_sample_images(
        logger, network, sample_images, digests, tmp_path, device="cpu", step=1
    )
    assert EDGES in tables[0][2][0]


def test_a_metric_from_outside_is_told_by_the_service(sweep: Path) -> None:
    import httpx

    from serving.api.service import create
    from serving.api.settings import Settings
    from serving.model.checkpoints import load

    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "grey").save(picture, "PNG")
    app = create(load(str(sweep / "0")), Settings())

    async def asked() -> tuple[Any, Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            files = {"photos": ("grey.png", picture.getvalue())}
            answer = await client.post("/v1/reconstruct?format=json", files=files)
            return answer.json(), (await client.get("/v1/model")).json()

    of_photos, of_model = asyncio.run(asked())
    assert of_photos["metrics"][0][EDGES] >= 0
    assert of_model["metrics"]["val"][TONE] >= 0
    measure = {"title": "Edge error", "unit": "levels", "direction": "minimize"}
    assert of_model["measures"][EDGES] == measure


def test_a_metric_that_breaks_its_contract_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.metrics.reconstruction import reconstruction_metrics

    monkeypatch.setattr(additions, "edges", lambda x_hat, x: (x_hat - x).mean())
    monkeypatch.setitem(metrics.METRICS, EDGES, METRICS[0])
    x = torch.rand(3, 3, 32, 32)
    with pytest.raises(ValueError, match=r"a value for each image, \(3,\), but .* gave \(\)"):
        reconstruction_metrics(x, x, names=[EDGES], strict=True)


@pytest.fixture
def _own_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a test registers from the configs of others."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))


@pytest.fixture
def plain(_own_groups: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network, registered; there is no file of it in conf/."""
    monkeypatch.setitem(models.NETWORKS, "plain", additions.NETWORK)
    config.register()
    return "plain"


def test_a_network_from_outside_keeps_the_contract(plain: str) -> None:
    for shape in networks.shapes(plain):
        networks.check_posterior_and_images(plain, shape)
    networks.check_gradients(plain)
    networks.check_options(plain)
    with pytest.raises(ValueError, match=r"square images of side 32, 48 .*but got 64x64"):
        models.create(plain, image_shape=(3, 64, 64), latent_dim=2)
    assert models.complete({"name": plain}, recorded=True)["bias"] is False
    assert models.complete({"name": plain})["bias"] is True


def test_a_network_from_outside_is_trained_served_and_exported(
    plain: str, compose: Compose, tmp_path: Path
) -> None:
    from serving.model import portable
    from serving.model.checkpoints import load

    others = [text for text in TINY if not text.startswith("model.")]
    composed = compose(*others, f"model={plain}", "model.bias=false")
    assert composed["model"] == {"name": plain, "bias": False}
    run_trial(composed, tmp_path, in_sweep=True)
    model = load(str(tmp_path))
    assert isinstance(model.network, additions.Plain)
    run = portable.write_torch(model, "vae", tmp_path / "vae.pt2")
    assert portable.largest_difference(model, "vae", run) < 1e-5


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file of a kind of its own, with 60 pictures."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        buffer = io.BytesIO()
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append(base64.b64encode(buffer.getvalue()).decode())
    path = tmp_path / "pictures.lines"
    path.write_text("\n".join(rows))
    return path


def test_a_kind_of_file_from_outside_is_trained_on_cached_and_named(
    lines: Path, tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.building import load
    from experiments.data import loading
    from experiments.data.sources import source

    wanted = tiny("data=images", f"data.root={lines}", "max_epochs=1")
    with pytest.raises(UserError, match=r"ending in .*but got"):
        load(wanted)
    monkeypatch.setitem(FILES, ".lines", f"{HERE}:Lines")
    monkeypatch.setattr(source, "_SETTLED_NS", 0)  # the file has only just been written
    run_trial(wanted, tmp_path / "record", in_sweep=True)
    told = read_result(tmp_path / "record")["data"]
    assert (told["source"], told["remarks"]) == (str(lines), [])
    with pytest.raises(UserError, match=r"\.lines, but .*missing does not exist"):
        load(tiny("data=images", f"data.root={tmp_path / 'missing'}"))
    monkeypatch.setattr(loading, "_build", None)  # what is cached is not decoded again
    assert len(load(wanted).images) == 60


@pytest.mark.usefixtures("_own_groups")
def test_a_named_source_from_outside_is_trained_on(
    lines: Path, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.building import load

    monkeypatch.setitem(FILES, ".lines", f"{HERE}:Lines")
    monkeypatch.setitem(SOURCES, "negatives", additions.NEGATIVES)
    config.register()
    others = [text for text in TINY if text != "data.count=120"]
    wanted = compose(*others, "data=negatives", f"data.root={lines}", "max_epochs=1")
    assert config.is_meant("data.root", wanted)
    assert not config.is_meant("data.count", wanted)
    run_trial(wanted, tmp_path / "record", in_sweep=True)
    assert read_result(tmp_path / "record")["data"]["source"] == "negatives"
    usual = load(compose(*others, "data=images", f"data.root={lines}"))
    assert np.array_equal(255 - load(wanted).images, usual.images)
    with pytest.raises(UserError, match=r"`data.name` must be one of cats, images, negatives, but"):
        compose(*others, "data.name=dogs")


@pytest.mark.usefixtures("_own_groups")
def test_a_logger_from_outside_can_have_each_step_once(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGERS, "memory", f"{HERE}:open_memory")
    monkeypatch.setattr(additions, "OPENED", [])
    config.register()
    wanted = tiny("logger=memory", "max_epochs=6", "trainer.validate_every=1")
    with pytest.raises(Killed):
        run_trial(
            wanted, tmp_path, in_sweep=True, resumable=True, callbacks=[KillLater(monkeypatch)]
        )
    logged = len(additions.OPENED[0].rows)
    run_trial(wanted, tmp_path, in_sweep=True, resumable=True)
    rows = [row for logger in additions.OPENED for row in logger.rows]
    assert len(additions.OPENED[0].rows) < logged
    validated = [step for step, row in rows if "val/psnr" in row]
    assert len(validated) == len(set(validated)) == 6


@pytest.mark.usefixtures("_own_groups")
def test_a_logger_from_outside_gets_metrics_and_pictures(
    tiny: Compose, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGERS, "memory", f"{HERE}:open_memory")
    monkeypatch.setattr(additions, "OPENED", [])
    config.register()
    run_trial(tiny("logger=memory"), tmp_path, in_sweep=True)
    (logger,) = additions.OPENED
    assert logger.closed
    logged = {name for _, row in logger.rows for name in row}
    assert {"val/psnr", "train/loss", "objective"} <= logged
    assert logger.pictures.keys() == {"reconstructions", "samples"}
    with pytest.raises(UserError, match=r"`logger.name` must be one of .*, memory, but got 'x'"):
        compose("logger.name=x")
    assert json.loads((tmp_path / "config.json").read_text())["logger"]["name"] == "memory"
