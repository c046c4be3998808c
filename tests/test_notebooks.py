"""The notebooks run on a fresh sweep, and what they need of its trained networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.load import load
from analysis.notebooks import execute, paths
from analysis.trained.latents import posteriors
from analysis.trained.models import best_trials, held_out, images_of, load_network
from experiments.data import to_float
from experiments.errors import UserError
from experiments.metrics.reconstruction import reconstruction_metrics


@pytest.mark.slow
@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_fresh_sweep(
    path: Path, tiny_sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))

    done = execute(path, source=str(tiny_sweep), renderer="json")

    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    drawn = [o for o in outputs if "application/json" in o.get("data", {})]
    assert len(drawn) >= 2
    assert not [o for o in outputs if o.output_type == "error"]


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_outputs_and_begins_with_its_source(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]

    assert "SOURCE = os.environ.get" in "".join(code[0]["source"])
    pictures = [o for c in code for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) >= 2
    assert path.stat().st_size < 1_500_000
    assert not [o for c in code for o in c["outputs"] if o.get("name") == "stderr"]


def test_the_best_trial_of_each_loss_is_that_of_the_table(tiny_sweep: Path) -> None:
    runs = load(str(tiny_sweep))

    best = best_trials(runs, "psnr")

    completed = runs.trials[runs.trials["status"] == "completed"]
    expected = completed.groupby("loss.name")["val/psnr"].max()
    assert {name: row["val/psnr"] for name, row in best.items()} == expected.to_dict()


def test_a_network_scores_on_its_images_as_its_record_says(tiny_sweep: Path) -> None:
    trial = best_trials(load(str(tiny_sweep)), "psnr")["mse"]

    network, images = load_network(trial), images_of(trial)

    x = to_float(images.val)
    shown = network.decode(posteriors(network, images.val)[0])
    psnr = reconstruction_metrics(shown, x, names=["psnr"])["psnr"].mean().item()
    assert psnr == pytest.approx(trial["val/psnr"], abs=1e-3)
    assert len(images.train) + len(images.val) + len(held_out(trial)) == 120
    assert images.factors is not None
    assert len(images.factors) == len(images.val)


def test_images_other_than_those_of_the_record_are_refused(tiny_sweep: Path) -> None:
    trial = best_trials(load(str(tiny_sweep)), "psnr")["mse"].copy()
    trial["data.fingerprint"] = "another"

    with pytest.raises(UserError, match="must be those that it was trained on"):
        images_of(trial)


def test_a_broken_or_missing_checkpoint_is_told(tiny_sweep: Path, tmp_path: Path) -> None:
    trial = best_trials(load(str(tiny_sweep)), "psnr")["mse"].copy()
    record = tmp_path / "record"
    shutil.copytree(trial["directory"], record)
    trial["directory"] = str(record)
    weights = record / "checkpoints" / "best.ckpt"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(UserError, match="no file of"):
        load_network(trial)
    weights.unlink()
    with pytest.raises(UserError, match="there is no"):
        load_network(trial)
    trial["directory"] = np.nan
    with pytest.raises(UserError, match="must be on this machine"):
        load_network(trial)


def test_without_completed_trials_there_is_no_best(tiny_sweep: Path) -> None:
    runs = load(str(tiny_sweep))

    assert best_trials(replace(runs, trials=runs.trials.assign(status="failed"))) == {}
