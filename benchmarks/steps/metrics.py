"""The structural metrics of a validation beside torchmetrics, whose numbers they are.

python -m benchmarks.steps.metrics
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.common import machine, result


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    from experiments.metrics.reconstruction import reconstruction_metrics

    print(f"SSIM of 64 images as a metric; {machine()}")
    for side in arguments.sides:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(64, 3, side, side, generator=generator)
        x_hat = (0.8 * x + 0.2 * torch.rand(x.shape, generator=generator)).clamp(0, 1)
        took: dict[str, list[float]] = {"ours": [], "torchmetrics": []}
        for _ in range(arguments.rounds + 1):
            started = time.perf_counter()
            ours = reconstruction_metrics(x_hat, x, names=["ssim"])["ssim"]
            between = time.perf_counter()
            theirs = structural_similarity_index_measure(x_hat, x, data_range=1.0, reduction="none")
            took["torchmetrics"].append(1000 * (time.perf_counter() - between))
            took["ours"].append(1000 * (between - started))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        fast, library = (statistics.median(took[name][1:]) for name in ("ours", "torchmetrics"))
        print(f"{side}x{side}: {fast:.1f} ms, torchmetrics {library:.1f} ms")
        result(
            f"SSIM as a metric at {side}x{side} against torchmetrics",
            library / fast,
            "> 1",
            beside=f"{fast:.1f} and {library:.1f} ms",
        )


if __name__ == "__main__":
    main()
