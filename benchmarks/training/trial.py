"""A trial of `run.py` against other ways to train the same network, at equal quality.

    VAESWEEP_DATA=<folder with cats_raw/> python -m benchmarks.training.trial

Each way trains the default network on the same images with the same loss and learning rate, in
one process, in turn, with another seed in each round: a bare loop in the trial's precision, a bare
loop in float32 fed by a default `DataLoader`, the trainer of pythae (`pip install pythae`; left
out without it) and the recipe of PyTorch-VAE. Then: where the time of `run.py` goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.common import composed, machine, photos, print_ratios, result

PYTHAE = "pythae's trainer"
IN_MEMORY, FROM_FILES = "PyTorch-VAE's recipe, images in memory", "PyTorch-VAE's recipe"
SAME, FLOAT32 = "bare loop", "bare loop in float32, DataLoader"
AIMS = {FLOAT32: 1.4, PYTHAE: 1.5, IN_MEMORY: 1.5, FROM_FILES: 1.5}
"""How many times faster `run.py` shall be."""


def ways(precision: str) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Each way's name and how it trains."""
    from benchmarks.training.ways import bare_loop, pythae, pytorch_vae, run_py

    found: dict[str, Callable[[dict[str, Any]], Any]] = {
        "run.py": run_py,
        SAME: lambda config: bare_loop(config, precision=precision, loader=False),
        FLOAT32: lambda config: bare_loop(config, precision="32-true", loader=True),
        IN_MEMORY: lambda config: pytorch_vae(config, from_files=False),
    }
    if os.environ.get("VAESWEEP_DATA"):
        found[FROM_FILES] = lambda config: pytorch_vae(config, from_files=True)
    try:
        import pythae as _  # noqa: F401
    except ImportError:
        print("pythae is not installed and left out: pip install pythae")
    else:
        found[PYTHAE] = pythae
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "offline"
    warnings.filterwarnings("ignore")  # Lightning's advice to the recipe

    from benchmarks.training.ways import bare_loop
    from experiments.machine.device import choose_hardware

    precision = choose_hardware(
        device="cpu", precision="auto", memory_format="auto", threads=None
    ).precision
    shared = [*photos(), "trainer.progress=false", f"max_epochs={arguments.epochs}"]
    shared += ["optimizer.warmup_steps=0"]  # which the others do not have
    bare_loop(composed(*shared, "max_epochs=1"), precision=precision, loader=False)  # warm up
    trained: dict[str, list[Any]] = {name: [] for name in ways(precision)}
    for seed in range(arguments.rounds):
        for name, train in ways(precision).items():
            trained[name].append(train(composed(*shared, f"seed={seed}")))

    seconds = {name: [t.seconds for t in found] for name, found in trained.items()}
    print_ratios(
        f"training, conv at 64x64, batch 64, {arguments.epochs} epochs", seconds, "run.py", "s"
    )
    psnr = {name: statistics.mean(t.psnr for t in found) for name, found in trained.items()}
    for name, value in psnr.items():
        print(f"{name}: PSNR {value:.2f} dB, mean of {arguments.rounds} seeds")
    _keep(trained, psnr)


def _keep(trained: dict[str, list[Any]], psnr: dict[str, float]) -> None:
    ours = trained["run.py"]
    for name, aim in AIMS.items():
        if name in trained:
            faster = statistics.median(
                theirs.seconds / run.seconds
                for theirs, run in zip(trained[name], ours, strict=True)
            )
            beside = f"PSNR {psnr['run.py']:.2f} and {psnr[name]:.2f} dB"
            result(f"run.py against {name}", faster, f">= {aim}", beside=beside)
    evaluation = statistics.median(run.evaluation / run.seconds for run in ours)
    harness = statistics.median(
        (run.seconds - run.evaluation) / bare.seconds - 1
        for run, bare in zip(ours, trained[SAME], strict=True)
    )
    print(f"validations: {evaluation:.1%} of the training's time; harness: {harness:.1%} of it")
    print(machine())
    result("validations, share of the training's time", 100 * evaluation, "<= 10", unit="%")
    result("harness over the bare loop, without validations", 100 * harness, "<= 3", unit="%")


if __name__ == "__main__":
    main()
