"""A real sweep under random faults, compared with one that nobody disturbs.

Small trainings are swept by `python run.py -m`, on a storage of your choice. Meanwhile workers,
the command, or both are killed, stopped and woken, interrupted, or given twice; and the command is
given again until it ends with 0. Then every trial must have been trained to one end, with the
weights that an undisturbed sweep gives it, bit for bit, and no process may be left. If a sweep is
through before the faults are, another one begins.

    python -m sweeps.chaos --faults 100 --seed 1
    python -m sweeps.chaos --storage journal:///shared/chaos.log
    python -m sweeps.chaos --storage postgresql://user@host/chaos --restart "pg_ctl restart -D data"

All waits are a tenth of what they are else. The seed gives the faults; when they meet which
process, the machine decides. Exits with 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from experiments.cli.grammar import literal
from experiments.errors import UserError
from experiments.machine.signals import sigterm_ends
from experiments.machine.waits import WAITS
from experiments.terminal import FULL_ERROR, errors_for_people
from sweeps.faults import LEASE, RESTART, SCALE, Fault, drawn
from sweeps.outcomes import Outcome, differences, outcomes
from sweeps.storage.opening import normalised, open_storage
from sweeps.storage.retry import is_away
from sweeps.study.definition import load_study

ROOT = Path(__file__).parents[1]
_MARK = "VAESWEEP_CHAOS"  # in the environment of all processes of this run
_STUCK = 600.0  # seconds without a fault, the end of a command or of a trial

_SWEEP = (
    "data=images", "data.root=images", "data.size=32", "model.width=4", "latent_dim=2",
    "batch_size=8", "trainer.threads=1", "trainer.progress=false", "trainer.validate_every=2",
    "evaluation.samples=64", "logger=csv", "report=none", "lr=1e-3,2e-3,5e-3,1e-2,2e-2", "seed=0,1",
    "sweep.max_retries=1000",
)  # fmt: skip


class Chaos:
    """One run of the command.

    Args:
        directory: for everything.
        storage: as `hydra.sweeper.storage` takes it; None for a SQLite file.
        workers: of the sweep.
        epochs: of each trial.
        restart: restarts the server of the storage; None where there is none.
    """

    def __init__(
        self,
        directory: Path,
        storage: str | None,
        workers: int,
        epochs: int,
        restart: Callable[[], None] | None = None,
    ) -> None:
        self._directory, self._storage, self._workers = directory, storage, workers
        self._epochs, self._restart = epochs, restart
        self._mark = uuid.uuid4().hex
        self._commands: list[subprocess.Popen[bytes]] = []
        self._woken: list[tuple[float, list[psutil.Process]]] = []
        self._name = ""
        self._given = 0
        self._began = time.monotonic()

    def run(self, faults: Sequence[Fault]) -> list[str]:
        """Sweep undisturbed, and then under the faults; what was not as it must be."""
        _make_images(self._directory / "images")
        try:
            undisturbed, left = self._sweep("undisturbed", [])
            count, wrong, rest = 0, [*left, *differences(undisturbed, undisturbed)], [*faults]
            while rest and not wrong:
                count += 1
                found, left = self._sweep(f"disturbed-{count}", rest)
                wrong = [*left, *differences(undisturbed, found)]
            return [f"{self._name}: {what}" for what in wrong]
        finally:
            self._kill(self._processes())

    def _sweep(self, name: str, faults: list[Fault]) -> tuple[list[Outcome], list[str]]:
        """One sweep under some of the faults, which it takes from the list; what it left."""
        self._name = f"chaos-{self._mark[:6]}-{name}"
        self._say(f"sweep {name}")
        self._give()
        wrong = self._until_it_ends(faults)
        self._wake(everything=True)
        wrong += self._processes_left()
        found = self._outcomes()
        completed = sum(trial.state.name == "COMPLETE" for trial in found)
        self._say(f"sweep {name} has ended: {completed} trials complete")
        return found, wrong

    def _until_it_ends(self, faults: list[Fault]) -> list[str]:
        due, since, is_disturbed = None, time.monotonic(), False
        while True:
            is_disturbed |= self._wake()
            if faults and due is None and (faults[0].is_early or self._workers_alive()):
                due = time.monotonic() + faults[0].pause
            if due is not None and time.monotonic() >= due and self._has_done(faults[0]):
                faults.pop(0)
                due, since, is_disturbed = None, time.monotonic(), True
            if not self._alive():
                code, since = self._commands[-1].returncode, time.monotonic()
                if code == 0 and not self._is_work_left():
                    return []
                if not is_disturbed and not self._woken:
                    return [f"the command ended with {code}, undisturbed; see {self._log()}"]
                is_disturbed = False
                self._give()
            if time.monotonic() - since > _STUCK:
                return [f"the command did not end within {_STUCK:.0f} s; see {self._log()}"]
            time.sleep(0.1)

    def _give(self) -> None:
        """Give the command, perhaps again."""
        self._given += 1
        environment = {
            **{key: value for key, value in os.environ.items() if key != FULL_ERROR},
            _MARK: self._mark,
            WAITS: str(SCALE),
            "VAESWEEP_CACHE": str(self._directory / "cache"),
        }
        more = [f"name={self._name}", f"max_epochs={self._epochs}"]
        more += [f"hydra.sweeper.n_jobs={self._workers}"]
        if self._storage is not None:
            more.append(f"hydra.sweeper.storage={literal(self._storage)}")
        with self._log().open("wb") as log:
            command = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), "-m", *_SWEEP, *more],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the terminal is not for it
            )
        self._commands.append(command)

    def _log(self) -> Path:
        return self._directory / f"command-{self._given}.log"

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return [command for command in self._commands if command.poll() is None]

    def _has_done(self, fault: Fault) -> bool:
        """Whether the fault has happened; it cannot where there is nobody whom it could meet."""
        commands = [p for command in self._alive() for p in _process(command.pid)]
        if "worker" in fault.kind:
            victims = _one_of(self._workers_alive(), fault.choice)
        elif "all" in fault.kind:
            victims = self._processes()
        else:
            victims = _one_of(commands, fault.choice)
        if not victims:
            return False
        self._say(f"{fault.kind}: {', '.join(str(p.pid) for p in victims)}")
        if fault.kind == RESTART:
            assert self._restart is not None
            self._restart()
        elif fault.kind.startswith("kill"):
            self._kill(victims)
        elif fault.kind.startswith("stop"):
            _signal(victims, signal.SIGSTOP)
            self._woken.append((time.monotonic() + fault.seconds, victims))
        elif fault.kind.startswith("interrupt"):
            _signal(victims, signal.SIGINT)
            if fault.kind.endswith("twice"):
                time.sleep(fault.choice)
                _signal(victims, signal.SIGINT)
        else:
            self._give()
        return True

    def _wake(self, *, everything: bool = False) -> bool:
        """Let those go on whose time has come; whether there were any."""
        now, before = time.monotonic(), len(self._woken)
        for entry in list(self._woken):
            until, processes = entry
            if everything or now >= until:
                self._woken.remove(entry)
                _signal(processes, signal.SIGCONT)
        return len(self._woken) < before

    def _processes(self) -> list[psutil.Process]:
        """All processes that the commands of this run have started, and the commands."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    found.append(process)
        return found

    def _workers_alive(self) -> list[psutil.Process]:
        """Only workers and commands lead sessions of their own."""
        commands = {command.pid for command in self._commands}
        return [p for p in self._processes() if p.pid not in commands and _leads_session(p.pid)]

    def _kill(self, processes: Sequence[psutil.Process]) -> None:
        _signal(processes, signal.SIGKILL)
        for command in self._commands:
            if any(p.pid == command.pid for p in processes):
                command.wait()

    def _processes_left(self) -> list[str]:
        """Those that do not end soon after their command."""
        _, alive = psutil.wait_procs(self._processes(), timeout=LEASE + 60)
        lines = []
        for process in alive:
            with suppress(psutil.Error):
                lines.append(f"process {process.pid} is left: {' '.join(process.cmdline())}")
        return lines

    def _outcomes(self) -> list[Outcome]:
        default = self._directory / "outputs" / self._name / "sweep" / "study.db"
        storage = normalised(self._storage, default)
        try:
            return outcomes(load_study(open_storage(storage, default), self._name))
        except KeyError:  # it was killed before it began
            return []

    def _is_work_left(self) -> bool:
        """Whether a trial has not ended; also where a worker is stopped that locks the storage."""
        try:
            return any(not trial.state.is_finished() for trial in self._outcomes())
        except Exception as error:
            if not is_away(error):
                raise
            return True

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)


def _make_images(directory: Path) -> None:
    import numpy as np
    from PIL import Image

    directory.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(32):
        coarse = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BILINEAR).save(directory / f"{number:02}.png")


def _one_of(processes: Sequence[psutil.Process], choice: float) -> list[psutil.Process]:
    return [processes[int(choice * len(processes))]] if processes else []


def _process(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [psutil.Process(pid)]
    return []


def _leads_session(pid: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getsid(pid) == pid
    return False


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _restarter(command: str | None) -> Callable[[], None] | None:
    if command is None:
        return None

    def restart() -> None:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(
                f"`--restart` must end with 0, but {command} ended with {done.returncode}: "
                f"{done.stderr.strip() or done.stdout.strip()}"
            )

    return restart


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sweeps.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--faults", type=int, default=20, help="how many (default: 20)")
    add("--seed", type=int, default=0, help="of the faults (default: 0)")
    add("--storage", help="as hydra.sweeper.storage takes it (default: a SQLite file)")
    add("--restart", metavar="COMMAND", help="restarts the storage's server; run twice on the way")
    add("--workers", type=int, default=2, help="of the sweep (default: 2)")
    add("--epochs", type=int, default=20, help="of each of the ten trials (default: 20)")
    add("--directory", type=Path, help="new; kept (default: a temporary one, kept if it fails)")
    return parser


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    for name in ("faults", "workers", "epochs"):
        value = getattr(arguments, name)
        if value < 1:
            raise UserError(f"`--{name}` must be 1 or more, but got {value}")
    if arguments.directory is not None and arguments.directory.exists():
        raise UserError(f"`--directory` must be new, but {arguments.directory} exists")
    storage = arguments.storage
    if storage is not None:
        storage = str(normalised(storage, Path()))
    directory = (arguments.directory or Path(tempfile.mkdtemp(prefix="chaos-"))).absolute()
    faults = drawn(arguments.faults, arguments.seed, restarts=arguments.restart is not None)
    chaos = Chaos(
        directory,
        storage,
        arguments.workers,
        arguments.epochs,
        _restarter(arguments.restart),
    )
    with sigterm_ends():  # and what it started ends with it
        wrong = chaos.run(faults)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        sys.exit(f"error: seed {arguments.seed} broke the sweep; its files are in {directory}")
    print(f"{arguments.faults} faults: all trials as undisturbed, bit for bit; nothing is left")
    if arguments.directory is None:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
