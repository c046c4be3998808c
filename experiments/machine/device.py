"""The device of a trial and the numerical settings that suit it."""

from __future__ import annotations

import platform
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.errors import UserError
from experiments.machine.cores import cores


@dataclass(frozen=True)
class Hardware:
    """What a trial runs on and how.

    Attributes:
        device: "cpu", "cuda:0", "mps", ...
        name: of the processor or GPU, for people.
        precision: Lightning's, for example "bf16-mixed".
        channels_last: memory format of convolutions.
        threads: of PyTorch on the CPU, at the start.
    """

    device: str
    name: str
    precision: str
    channels_last: bool
    threads: int

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.device} ({self.name}) in {self.precision}, {threads}"

    @property
    def accelerator(self) -> str:
        """Lightning's name of the kind of device."""
        return {"cuda": "gpu"}.get(self.device.partition(":")[0], self.device)

    @property
    def devices(self) -> list[int] | int:
        """Lightning's choice among devices of the kind."""
        index = self.device.partition(":")[2]
        return [int(index)] if index else 1


def take_threads(given: int | None = None) -> None:
    """Set PyTorch's number of threads: what a user gave, or at most one a core of this process.

    PyTorch itself counts the machine's cores, whatever a container or SLURM grants of them.

    Args:
        given: by the user; None for PyTorch's own choice (`OMP_NUM_THREADS`) within the cores.
    """
    torch.set_num_threads(given or min(torch.get_num_threads(), cores()))


def choose_hardware(
    *, device: str, precision: str, memory_format: str, threads: int | None = None
) -> Hardware:
    """Resolve `auto` for the machine at hand and set the number of threads.

    `auto` precision is bfloat16 autocast where the device multiplies it in hardware, else
    float32; `auto` memory format is channels_last wherever there is bfloat16. On a GPU float32
    means float32: convolutions do not round their inputs to TF32, as PyTorch lets them.

    Raises:
        UserError: the device is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = _resolve(device)
    if device.startswith("cuda"):
        cudnn: Any = torch.backends.cudnn
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "ieee"  # PyTorch wants both alike
    if precision == "auto":
        precision = "bf16-mixed" if _multiplies_bfloat16(device) else "32-true"
    channels_last = memory_format == "channels_last" or (
        memory_format == "auto" and precision != "32-true"
    )
    return Hardware(device, _name(device), precision, channels_last, torch.get_num_threads())


def of_rank(device: str, local_rank: int, *, last: int = 0) -> str:
    """The device of one of several processes on this machine, each of which has a GPU of its own.

    Args:
        device: `trainer.device`, of several GPUs the first.
        local_rank: of the process.
        last: the greatest one for which there must be a GPU as well.

    Raises:
        UserError: there are too few.
    """
    first = _resolve(device)
    kind, _, index = first.partition(":")
    if kind == "cpu":
        return first
    there = torch.cuda.device_count() if kind == "cuda" else 1
    if there == 1 and last == 0:
        return first  # whoever started the processes gives each a GPU to see
    wanted = int(index or 0) + max(local_rank, last)
    if wanted >= there:
        raise UserError(
            f"`trainer.devices` must be at most the number of GPUs from {first} on, "
            f"{there - int(index or 0)}, but got {max(local_rank, last) + 1}; lower it, or "
            "compute on trainer.device=cpu"
        )
    return f"{kind}:{int(index) + local_rank}"


def seed_everything(seed: int) -> None:
    """Seed every random stream, and keep cuDNN to algorithms that repeat themselves."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every random stream, that of `device` too, in types for a checkpoint."""
    generator: Any = np.random.get_state(legacy=True)
    name, keys, *rest = generator
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put every random stream back to where `random_state` found it, perhaps on another device."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _resolve(device: str) -> str:
    choices = ["cpu"]
    if torch.cuda.is_available():
        choices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        choices.append("mps")
    if device == "auto":
        return choices[1] if len(choices) > 1 else "cpu"
    resolved = "cuda:0" if device in ("cuda", "gpu") else device
    if resolved not in choices:
        raise UserError(
            f"`trainer.device` must be one of auto, {', '.join(choices)} on this machine, "
            f"but got {device!r}"
        )
    return resolved


def _multiplies_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        # Emulated bfloat16 is slower than float32.
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def _name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
