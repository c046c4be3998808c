"""Train a variational auto-encoder: `python run.py`, `python run.py -m loss=ssim,mse lr=1e-3,3e-4`.

`python run.py --help` lists the knobs.
"""

from __future__ import annotations

from experiments.machine.signals import end_quietly

if __name__ == "__main__":  # what follows loads for a second
    end_quietly()

import logging
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from experiments import config as configs
from experiments.cli.grammar import readable_conditions
from experiments.errors import Pruned, UserError
from experiments.machine.code import own_version
from experiments.machine.signals import INTERRUPTED, sigterm_ends
from experiments.ranks.environment import place
from experiments.ranks.process_group import joined
from experiments.record import discard
from experiments.record.single import single_run
from experiments.terminal import errors_for_people
from experiments.tracking.wandb.run import by_agent
from sweeps import sweeper, whitelist
from sweeps.wandb import agent

if TYPE_CHECKING:
    from sweeps.command import Sweep
    from sweeps.screen.ending import Conclusion

log = logging.getLogger(__name__)


def conclude(sweep: Sweep) -> Conclusion:
    """Find the answer of a sweep that has ended and, unless `report=none`, write its report."""
    from analysis.comparison import compare
    from analysis.load import load
    from analysis.report import write
    from sweeps.screen.ending import Conclusion

    runs = load(sweep)
    numbers = dict(zip(runs.trials["trial"], runs.trials["number"], strict=True))
    if sweep.config["report"] == "none":
        found = compare(runs)
        return Conclusion(answer=found.verdict, use=[int(numbers[n]) for n in found.recommended])
    out = sweep.directory / "report.html"
    content = write(runs, out, sources=[str(sweep.directory)])
    assert content is not None
    use = [int(numbers[name]) for name in content.recommended]
    return Conclusion({"report": out}, content.verdict, use)


def refuse_a_records_words(arguments: Sequence[str]) -> None:
    """Hydra's `--experimental-rerun` takes what a record says was typed for the user's word.

    Raises:
        UserError: it is among the arguments.
    """
    from hydra._internal.utils import get_args_parser

    record = get_args_parser().parse_known_args(arguments)[0].experimental_rerun
    if record is not None:
        raise UserError(
            "`--experimental-rerun` must not be given, since a record may be somebody else's, but "
            f"got {record}; python -m experiments.rerun {shlex.quote(record)} trains it again"
        )


configs.register()
sweeper.register(at_end=conclude)


@hydra.main(  # type: ignore[untyped-decorator]
    config_path="conf", config_name="config", execution_whitelist=whitelist()
)
def train(config: DictConfig) -> float | tuple[float, ...]:
    """Run one trial and return its objective (several for a Pareto search)."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    in_sweep = hydra_config.mode == RunMode.MULTIRUN or by_agent()
    here = place()
    with nullcontext() if in_sweep else single_run(directory, here.launcher if here else None):
        return _trained(config, directory, in_sweep=in_sweep)


def _trained(config: DictConfig, directory: Path, *, in_sweep: bool) -> float | tuple[float, ...]:
    try:
        if config.sweep.file is not None:
            raise UserError(
                "`sweep.file` must be searched with -m (python run.py -m sweep=wandb "
                f"sweep.file=FILE), but got sweep.file={config.sweep.file or 'nothing'} without"
            )
        values = configs.plain(config)
    except UserError:
        discard(directory)
        raise
    from experiments.record.logs import warnings_logged
    from experiments.trial import run_trial

    try:
        with warnings_logged():
            found = run_trial(values, directory, in_sweep=in_sweep, resumable=not in_sweep)
            return found.objective
    except Pruned as given_up:
        log.info("%s; record: %s", given_up, directory)
        raise SystemExit(INTERRUPTED) from given_up


if __name__ == "__main__":
    with (
        errors_for_people(),
        sigterm_ends(),
        joined(sys.argv[1:], in_sweep=by_agent()),
        agent.reporting(),
    ):
        if "--version" in sys.argv[1:]:
            sys.stdout.write(f"vaesweep {own_version()}\n")
            sys.exit()
        sys.argv[1:] = readable_conditions(agent.overrides(sys.argv[1:]))
        refuse_a_records_words(sys.argv[1:])
        train()
