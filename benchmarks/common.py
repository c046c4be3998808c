"""What the benchmarks share: the config, the machine's description and the tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = "VAESWEEP_BENCHMARK_RESULTS"
"""Names the file to which `result` adds a line for the one table of `benchmarks.all`."""


def composed(*overrides: str) -> dict[str, Any]:
    """The config that `run.py` would compose from the overrides."""
    from hydra import compose, initialize_config_dir

    from experiments import config

    config.register()
    with initialize_config_dir(str(ROOT / "conf")):
        return config.plain(compose("config", list(overrides)))


def photos() -> list[str]:
    """Overrides that choose the 700 photos of VAESWEEP_DATA or, without it, the drawn cats."""
    folder = os.environ.get("VAESWEEP_DATA")
    if folder:
        return ["data=images", f"data.root={Path(folder).absolute() / 'cats_raw'}"]
    return ["data.count=700"]


def machine() -> str:
    """The processor and its cores, in a line."""
    from experiments.machine.device import choose_hardware

    hardware = choose_hardware(device="cpu", precision="auto", memory_format="auto", threads=None)
    return (
        f"{hardware.name}, {os.cpu_count()} cores, {hardware.threads} threads, "
        f"{hardware.precision}, Python {platform.python_version()}"
    )


def result(what: str, value: float, aim: str, *, unit: str = "x", beside: str = "") -> None:
    """Keep a number for the one table.

    Args:
        what: was measured.
        value: mostly a ratio of two things that were measured in this run.
        aim: such as ">= 1.5" or "<= 10".
        unit: of the value.
        beside: the numbers that the ratio comes from.
    """
    name = os.environ.get(RESULTS)
    if name:
        line = json.dumps(
            {"what": what, "value": value, "aim": aim, "unit": unit, "beside": beside}
        )
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def ratios(measured: Mapping[str, Sequence[float]], base: str) -> dict[str, list[float]]:
    """Each one's ratios to the base, round by round, in ascending order."""
    return {
        name: sorted(v / b for v, b in zip(values, measured[base], strict=True))
        for name, values in measured.items()
    }


def print_ratios(title: str, measured: Mapping[str, Sequence[float]], base: str, unit: str) -> None:
    """Print each median and the median of its ratios, round by round, to the base."""
    width = max(map(len, measured))
    print(f"\n{title}\n{machine()}")
    print(f"{'':<{width}}  {unit:>10}  {'ratio':>6}  lowest to highest ratio")
    for name, found in ratios(measured, base).items():
        print(
            f"{name:<{width}}  {statistics.median(measured[name]):>10.4g}  "
            f"{statistics.median(found):>6.3f}  {found[0]:.3f} to {found[-1]:.3f}"
        )
