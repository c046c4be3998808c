"""Several machines at one study: commands that share nothing but a database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.servers import PostgreSQL, Proxy
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MACHINE = """
import sys, warnings
sys.path[:0] = [{root!r}]
warnings.simplefilter("error")
import sweeps
from tests.simulated import SimulatedTask

if __name__ == "__main__":
    task = SimulatedTask(log="log", epochs=3, seconds={seconds!r}, kill={kill!r})
    sweeps.run({overrides!r}, task=task)
"""


def trials_in(url: str) -> list[FrozenTrial]:
    """Of the study in a PostgreSQL database."""
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        return optuna.load_study(study_name="shared", storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def start(
    folder: Path, *overrides: str, kill: tuple[str, ...] = (), seconds: float = 0.05
) -> subprocess.Popen[str]:
    """A command on a machine: in a directory that no other sees."""
    folder.mkdir()
    script = folder / "machine.py"
    values = {"root": str(ROOT), "overrides": list(overrides), "kill": kill, "seconds": seconds}
    script.write_text(MACHINE.format(**values))
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*machines: subprocess.Popen[str]) -> list[str]:
    outputs = [machine.communicate(timeout=PATIENCE)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0] * len(machines), outputs
    return outputs


@pytest.mark.parametrize("storage", ["database", "proxy"])
def test_a_budget_is_spent_once_by_all_machines(
    tmp_path: Path, storage: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(storage)
    url = address.url if isinstance(address, Proxy) else address
    overrides = [
        "name=shared",
        "lr=tag(log,interval(1e-4,1e-2))",
        "hydra.sweeper.n_trials=14",
        "hydra.sweeper.n_jobs=2",
        f"hydra.sweeper.storage='{url}'",
        "hydra/sweeper/pruner=none",
    ]
    # Long enough for the slower machine to join before the other has done everything, as a rule.
    outputs = finish(*(start(tmp_path / name, *overrides, seconds=0.3) for name in ("one", "two")))
    paths = [tmp_path / name / "log" for name in ("one", "two")]
    logs = [path.read_text().splitlines() if path.exists() else [] for path in paths]
    begun = Counter(line.split()[0] for log in logs for line in log if " begin " in line)
    assert len(begun) == 14
    assert set(begun.values()) == {1}
    if storage == "database":
        trials = trials_in(url)
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 14
        assert all(t.user_attrs["summary"] for t in trials), "no shared disk is needed to analyse"
        secrets = {unquote(urlsplit(url).password or ""), urlsplit(url).password}
        assert "" not in secrets
        assert not any(str(secret) in output for secret in secrets for output in outputs)


def test_a_database_that_restarts_costs_no_trial(
    tmp_path: Path, postgresql: PostgreSQL, database: str
) -> None:
    overrides = [
        "name=shared",
        "latent_dim=1,2,3,4,5,6,7,8",
        "hydra.sweeper.n_jobs=2",
        f"hydra.sweeper.storage='{database}'",
    ]
    machine = start(tmp_path / "one", *overrides)
    log = tmp_path / "one" / "log"
    wait_until(
        lambda: log.exists() and "2 begin" in log.read_text(), machine, lambda: finish(machine)
    )
    postgresql.restart()
    finish(machine)
    kept = [t for t in trials_in(database) if "retried" not in t.user_attrs]
    assert sorted(t.params["latent_dim"] for t in kept) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {t.state for t in kept} == {TrialState.COMPLETE}
