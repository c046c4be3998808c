"""The training step leaves all work to the device: nothing in it waits for a result."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import losses
from experiments import building
from experiments.data.augment import Augment
from experiments.machine.device import Hardware, seed_everything
from experiments.record import read_history, read_result
from experiments.trial import run_trial
from models.finite import FiniteWatch
from models.vae import VAE

Compose = Callable[..., dict[str, Any]]
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"
)
NAMED = sorted(set(losses.DISTANCES) - {"custom"})


class _Waiting(TorchDispatchMode):
    """Refuses operations whose result Python reads, or whose shape depends on values."""

    forbidden = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.forbidden, f"{name} waits for the device"
        if name == "index":
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, "a mask waits for the device"
        return func(*args, **(kwargs or {}))


def built(config: dict[str, Any], hardware: Hardware) -> VAE:
    loss = building.build_loss(config, (3, 32, 32))
    seed_everything(0)
    when = building.Schedule(steps_per_epoch=100, validate_every=1, log_every=50)
    return building.build_vae(config, loss, (3, 32, 32), hardware, when)


def test_the_guard_notices_what_waits() -> None:
    x = torch.ones(3)
    for wait in (lambda: x.sum().item(), lambda: bool(x[0] > 0), lambda: x[x > 0]):
        with pytest.raises(AssertionError, match="waits for the device"), _Waiting():
            wait()


@pytest.mark.slow
@pytest.mark.parametrize("loss", NAMED)
def test_no_loss_makes_the_step_wait(tiny: Compose, loss: str) -> None:
    vae = built(
        tiny(f"loss={loss}", "data.flip=true", "data.crop=0.8", "data.jitter=0.1"),
        Hardware("cpu", "", "32-true", False, 1),
    )
    optimizer = vae.configure_optimizers()[0][0]
    vae.on_train_start()
    batch = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    with _Waiting():
        value = vae._loss_of(batch)
        value.backward()
        vae._clip_gradients()
        optimizer.step()
    assert torch.isfinite(value)


@pytest.mark.parametrize("bad", [0, 5])
def test_the_watch_counts_the_steps_before_the_first_bad_loss(bad: int) -> None:
    watch, found = FiniteWatch(), []
    for step in range(8):
        watch.observe(torch.tensor(float("nan") if step == bad else 1.0))
        found.append(watch.after_step())
    assert found == [None] * bad + [bad] * (8 - bad)


@pytest.mark.slow
def test_only_a_gpu_records_and_not_what_runs_python_in_each_step(tiny: Compose) -> None:
    def recordable(device: str, precision: str, *overrides: str) -> bool:
        return building._recordable(tiny(*overrides), Hardware(device, "", precision, True, 1))

    assert recordable("cuda:0", "bf16-mixed")
    assert not recordable("cpu", "bf16-mixed")
    assert not recordable("cuda:0", "16-mixed")
    assert not recordable("cuda:0", "bf16-mixed", "trainer.cuda_graph=false")
    assert not recordable("cuda:0", "32-true", "loss=custom", "loss.target=x.y")
    assert not recordable("cuda:0", "32-true", "loss=ssim", "loss.backend=library")


class _Error(Callback):
    """Makes every wait for the GPU an error from step 5 to step 45."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step in (5, 45):
            mode = "error" if trainer.global_step == 5 else "default"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it says that it is a prototype
                torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture
def _checked_waits() -> Any:
    yield
    torch.cuda.set_sync_debug_mode("default")


@needs_cuda
@pytest.mark.usefixtures("_checked_waits")
@pytest.mark.parametrize("recorded", ["true", "false"])
@pytest.mark.parametrize("loss", ["mse", "ssim", "kornia_ms_ssim"])
def test_the_whole_loop_never_waits(
    tiny: Compose, tmp_path: Path, loss: str, recorded: str
) -> None:
    config = tiny(
        f"loss={loss}", "data.count=1200", "max_epochs=1", "kl.warmup_epochs=0.5",
        "data.flip=true", "data.crop=0.8", "data.jitter=0.1", f"trainer.cuda_graph={recorded}",
    )  # fmt: skip
    run_trial(config, tmp_path / "record", callbacks=[_Error()], in_sweep=True)
    assert read_result(tmp_path / "record")["steps"] > 45


@needs_cuda
@pytest.mark.parametrize("loss", NAMED)
def test_a_recorded_step_gives_the_results_of_a_plain_one(
    tiny: Compose, tmp_path: Path, loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {}
    for recorded in ("true", "false"):
        config = tiny(
            f"loss={loss}", "data.flip=true", "data.crop=0.8", "data.jitter=0.1",
            "kl.warmup_epochs=3", "max_epochs=4", "trainer.precision=32-true",
            f"trainer.cuda_graph={recorded}",
        )  # fmt: skip
        with caplog.at_level("INFO"):
            run_trial(config, tmp_path / recorded, in_sweep=True)
        rows[recorded] = read_history(tmp_path / recorded)
    assert "unrecorded" not in caplog.text
    for ours, plain in zip(rows["true"], rows["false"], strict=True):
        assert ours == pytest.approx(plain, rel=1e-4, abs=1e-5, nan_ok=True)


class _Waits(nn.Module):
    def forward(self, x_hat: Tensor, x: Tensor, *_: Any, **__: Any) -> dict[str, Tensor]:
        loss = (x_hat - x).square().mean()
        return {"loss": loss * (1 if loss.item() > 0 else 2)}


@needs_cuda
def test_a_step_that_cannot_be_recorded_goes_on_without(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(losses.elbo.ELBO, "forward", _Waits.forward)
    with caplog.at_level("INFO"):
        run_trial(tiny("objective=mse"), tmp_path / "record", in_sweep=True)
    assert "goes on unrecorded" in caplog.text
    assert read_result(tmp_path / "record")["status"] == "completed"
    monkeypatch.undo()
    with caplog.at_level("INFO"):
        caplog.clear()
        run_trial(tiny(), tmp_path / "next", in_sweep=True)
    assert "goes on unrecorded" not in caplog.text


@needs_cuda
@pytest.mark.parametrize("recorded", ["true", "false"])
def test_a_gpu_tells_the_step_that_diverged(tiny: Compose, tmp_path: Path, recorded: str) -> None:
    from experiments.errors import TrialError

    config = tiny("lr=1e30", "optimizer.warmup_steps=0", f"trainer.cuda_graph={recorded}")
    with pytest.raises(TrialError, match=r"NaN or infinite at step [1-9]"):
        run_trial(config, tmp_path / "record", in_sweep=True)


@needs_cuda
def test_augmentation_draws_on_the_gpu() -> None:
    x = torch.rand(16, 3, 32, 32, device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        out = Augment(flip=True, crop=0.8, jitter=0.1)(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert out.device == x.device
