"""AdamW and the learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau

_FUSED_DEVICES = ("cpu", "cuda", "mps")


def adamw(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> AdamW:
    """AdamW (Loshchilov and Hutter, 2019) that decays weights, but not biases or norms."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in _FUSED_DEVICES for p in trainable)
    return AdamW(groups, lr=lr, fused=fused)


def schedules(
    optimizer: Optimizer,
    *,
    schedule: str,
    total_steps: int,
    warmup_steps: int,
    plateau: dict[str, Any],
) -> list[dict[str, Any]]:
    """Lightning's scheduler configurations for `plateau`, `cosine` or `constant` with warm-up.

    Args:
        optimizer: whose learning rates are scheduled.
        schedule: "plateau" (multiply by `factor` when the monitored metric stalls), "cosine"
            (to 0 over `total_steps`; Loshchilov and Hutter, 2017) or "constant".
        total_steps: optimizer steps of the whole training.
        warmup_steps: steps over which the rate rises linearly to its value.
        plateau: `monitor`, `mode`, `factor`, `patience` (in validations) and `frequency`
            (epochs between validations).
    """
    if schedule == "cosine":
        cosine = LambdaLR(optimizer, lambda step: _cosine(step, warmup_steps, total_steps))
        return [_every_step(cosine)]
    configs = []
    if warmup_steps > 0:
        first = 1 / (warmup_steps + 1)
        rise = LinearLR(optimizer, start_factor=first, total_iters=warmup_steps)
        configs.append(_every_step(rise))
    if schedule == "plateau":
        reduce = ReduceLROnPlateau(
            optimizer,
            mode=plateau["mode"],
            factor=plateau["factor"],
            patience=plateau["patience"],
        )
        configs.append(
            {
                "scheduler": reduce,
                "interval": "epoch",
                "frequency": plateau["frequency"],
                "monitor": plateau["monitor"],
                "strict": False,
            }
        )
    return configs


def _every_step(scheduler: LRScheduler) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": "step"}


def _cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
