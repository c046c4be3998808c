"""Train a variational auto-encoder: `python run.py`, `python run.py -m loss=ssim,mse lr=1e-3,3e-4`.

`python run.py --help` lists the knobs.
"""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from experiments import config as configs
from experiments.errors import UserError
from experiments.record import discard
from experiments.terminal import errors_for_people

configs.register()

# What Hydra may import on a config's word: its own logging and launchers, nothing else. Losses,
# models and data sources are known by name and need no such permission.
WHITELIST = ["logging.*", "hydra.*", "hydra_plugins.*"]


@hydra.main(  # type: ignore[untyped-decorator]
    config_path="conf", config_name="config", execution_whitelist=WHITELIST
)
def train(config: DictConfig) -> float | tuple[float, ...]:
    """Run one trial and return its objective (several for a Pareto search)."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    try:
        values = configs.plain(config)
    except UserError:
        discard(directory)
        raise
    from experiments.trial import run_trial

    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    return run_trial(values, directory, in_sweep=in_sweep).objective


if __name__ == "__main__":
    with errors_for_people():
        train()
