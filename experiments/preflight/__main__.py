"""What a loss can pay for on these images, before anything is trained.

    python -m experiments.preflight data=images data.root=PHOTOS latent_dim=64 beta=2

takes the overrides of `run.py` and prints a row for every loss and scale; `loss=` and
`loss.scale=` choose among them. `run.py` says the same of its own loss before it trains, and warns
where it expects a collapse. `experiments.preflight.capacity` says what is exact in
it and what is not.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import losses
from experiments import config as configs
from experiments.preflight.forecasting import forecasts
from experiments.preflight.telling import show
from experiments.terminal import errors_for_people


def _every_loss(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The configs of every loss and scale that the overrides leave open."""
    base = configs.compose(overrides)
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    scales = (base["loss"]["scale"],) if "loss.scale" in keys else losses.SCALES
    scaling = {f"loss.{key}" for key in losses.SCALING}
    if "loss" in keys or any(k.startswith("loss.") and k not in scaling for k in keys):
        chosen = [base]
    else:
        files = sorted((Path(losses.__file__).parents[1] / "conf" / "loss").glob("*.yaml"))
        names = [file.stem for file in files if file.stem != "custom"]
        chosen = [configs.compose([*overrides, f"loss={name}"]) for name in names]
    return [one | {"loss": one["loss"] | {"scale": scale}} for one in chosen for scale in scales]


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(__doc__ or "")
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from experiments.machine.device import take_threads

    take_threads()
    show(*forecasts(_every_loss(arguments)))


if __name__ == "__main__":
    main()
