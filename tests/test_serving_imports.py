"""What the service's image does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from serving.monitoring.drift import reconstruction_drift
from tests.conftest import ROOT

_LOADS = """
import sys
import serving.app
import serving.generate
from experiments.metrics.reconstruction import psnr
from experiments.scoring.evaluation import to_uint8
from serving.api import engine, routes, service
from serving.model.checkpoints import load
from serving.monitoring import drift
model = load(sys.argv[1])
images = to_uint8(model.network.decode(__import__("torch").zeros(2, model.network.latent_dim)))
psnr(images.float() / 255, images.float() / 255)
drift.reconstruction_drift(model.trained.statistics.mse, model.trained.statistics.mse)
print([name for name in ("scipy", "torchmetrics", "decisions", "optuna") if name in sys.modules])
"""


@pytest.mark.trains
def test_the_service_loads_neither_scipy_nor_torchmetrics(trained: Path) -> None:
    command = [sys.executable, "-c", _LOADS, str(trained)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("counts", [(50, 100), (7, 3)])
def test_drift_is_the_distance_of_kolmogorov_and_smirnov(counts: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    recent, reference = (np.round(generator.normal(size=n), 1) for n in counts)  # with ties
    expected = ks_2samp(recent, reference, method="asymp").statistic
    assert reconstruction_drift(recent, reference) == pytest.approx(expected)
