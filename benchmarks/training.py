"""Images per second of a trial against bare PyTorch loops with the same network.

    VAESWEEP_DATA=<folder with cats_raw/> python benchmarks/training.py

Four ways to train the default network at 64x64 in one process, in turn, some rounds of each:
`run.py`'s whole trial (Lightning, W&B offline, validations, metrics, checkpoints); a bare loop
over tensors in memory in the same precision and memory format; a bare loop in float32 fed by a
default `DataLoader` over a `TensorDataset`; and the first of these with float32.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from common import composed, photos, print_ratios


def bare(config: dict[str, Any], *, epochs: int, precision: str, loader: bool) -> float:
    """Images per second of a plain loop: forward, backward, clip, step."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import losses
    import models
    from experiments import parts
    from losses.elbo import ELBO
    from models.network import sample_posterior
    from models.optimizers import adamw

    mixed = precision != "32-true"
    layout = torch.channels_last if mixed else torch.contiguous_format
    data = parts.batched(config, parts.load(config), "cpu")
    network = models.create("conv", image_shape=data.images.image_shape, latent_dim=32)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    loss = ELBO(losses.create("mse"))
    optimizer = adamw(network.parameters(), lr=1e-3, weight_decay=0.01)
    batches: Iterable[Any] = data.train
    if loader:
        floats = torch.from_numpy(data.images.images[data.splits.train]).float() / 255
        batches = DataLoader(
            TensorDataset(floats), batch_size=config["batch_size"], shuffle=True, drop_last=True
        )
    images = 0
    started = time.perf_counter()
    for _ in range(epochs):
        for batch in batches:
            x = batch[0] if loader else batch.to(torch.float32, memory_format=layout).div_(255)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                mean, log_variance = network.encode(x)
                x_hat = network.decode(sample_posterior(mean, log_variance))
                value = loss(x_hat, x, mean, log_variance)["loss"]
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            images += len(x)
    return images / (time.perf_counter() - started)


def trial(config: dict[str, Any]) -> float:
    """Images per second of a whole trial, from the first to the last epoch."""
    from experiments.record import read_result
    from experiments.trial import run_trial

    with tempfile.TemporaryDirectory() as directory:
        run_trial(config, directory, in_sweep=True)
        return float(read_result(directory)["timings"]["images_per_second"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "offline"
    shared = [*photos(), f"max_epochs={arguments.epochs}", "trainer.progress=false"]
    config, in_float32 = composed(*shared), composed(*shared, "trainer.precision=32-true")

    from experiments.device import choose_hardware

    precision = choose_hardware(
        device="cpu", precision="auto", memory_format="auto", threads=None
    ).precision
    bare(config, epochs=1, precision=precision, loader=False)  # warm up
    ways: dict[str, Callable[[], float]] = {
        "bare loop": lambda: bare(
            config, epochs=arguments.epochs, precision=precision, loader=False
        ),
        "run.py": lambda: trial(config),
        "run.py in float32": lambda: trial(in_float32),
        "bare loop in float32, DataLoader": lambda: bare(
            config, epochs=arguments.epochs, precision="32-true", loader=True
        ),
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, measure in ways.items():
            measured[name].append(measure())
    print_ratios("training, conv at 64x64, batch 64", measured, "bare loop", "images/s")


if __name__ == "__main__":
    main()
