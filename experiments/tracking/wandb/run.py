"""Weights & Biases, and nothing else, knows about Weights & Biases.

Whether to be online is decided before the client starts, since the client itself would hang for
minutes or fail: without credentials, or without a server that accepts a connection, a run is
written to disk and can be brought to the server later. A trial owns its run, which is never the
process's global one, and `finish` ends it: trials in one process cannot leak into each other.
The client (wandb 0.31) is kept silent and bounded in time, and what the user should know is one
line in the log.
"""

from __future__ import annotations

import glob
import importlib.util
import logging
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.record import flat
from experiments.tracking.wandb.client import (
    CLIENT_SECONDS,
    end_client,
    failures,
    hand_over_artifacts,
    telemetry_off,
    within,
)
from experiments.tracking.wandb.mode import Mode, choose

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytorch_lightning.loggers import WandbLogger

    from experiments.tracking.wandb.logger import SafeWandbLogger

INIT_SECONDS = 10.0
"""How long an online run may take to start, before it is offline."""
FINISH_SECONDS = 30.0
"""How long the end of a trial waits for the server; the rest can be synced later."""
RETRY_SECONDS = 300.0
"""After a failed online start, how long later trials of the process do not try another."""

STEP = "trainer/global_step"
"""The x axis of every metric."""
_SILENCE: dict[str, Any] = {"silent": True, "console": "off"}
_last_failure: tuple[float, str] | None = None  # when, and what
_started = False

log = logging.getLogger(__name__)


def choose_mode(environment: Mapping[str, str] = os.environ, timeout: float = 1.0) -> Mode:
    """Whether W&B is used online, offline or not at all, and why.

    `WANDB_MODE` (or W&B's settings file) wins. Else online takes credentials (`WANDB_API_KEY`,
    `WANDB_IDENTITY_TOKEN_FILE`, netrc or the settings file) and a server, or the proxy to it,
    that accepts a connection within `timeout` seconds. Without credentials nothing is imported.

    Raises:
        UserError: wandb is not installed, or `WANDB_MODE` or `WANDB_BASE_URL` is malformed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "`logger=wandb` needs the package wandb: pip install wandb, or logger=csv, logger=none"
        )
    return choose(environment, timeout, _default_url)


def start(
    directory: Path,
    *,
    project: str,
    entity: str | None,
    name: str,
    group: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
    objectives: Mapping[str, str],
    revision: str | None = None,
    mode: Mode | None = None,
    run_id: str | None = None,
    log_model: bool = False,
) -> SafeWandbLogger:
    """Start a run in `directory`/wandb; logs one line that says where it goes.

    Under `wandb agent` the run is the one that the agent was given; its config is flat, since
    W&B knows it by the names of the sweep's parameters, of which a `loss` must not become a group.

    A run that cannot start online within `INIT_SECONDS` (`WANDB_INIT_TIMEOUT`) is offline, and
    one whose client does not start at all is disabled.

    Args:
        directory: the trial's record.
        project: W&B project; `WANDB_PROJECT` wins.
        entity: W&B user or team; None is the key's own.
        name: of the run.
        group: of the runs of a sweep.
        tags: of the run.
        config: plain values.
        objectives: metrics whose best value, logged as val/..., is the summary, with "maximize"
            or "minimize".
        revision: commit of the code.
        mode: None for `choose_mode`'s.
        run_id: continue the run of that id, if the server has it.
        log_model: upload checkpoints as artifacts.

    Raises:
        UserError: wandb is not installed, or does not accept the project, a tag or the id.
    """
    global _started
    mode = mode or choose_mode()
    from wandb.sdk.lib.runid import generate_id

    from experiments.tracking.wandb.logger import SafeWandbLogger

    stop = threading.Event()
    options = {
        "root_dir": str(directory),
        # The client itself would interrupt the process, with all the trials that are to come. It
        # copies its settings: a method with its object, but not a function.
        "stop_fn": lambda: stop.set(),
        "project": os.environ.get("WANDB_PROJECT") or project,
        "entity": entity,
        "run_name": name,
        "run_group": group,
        "run_tags": tuple(tags) or None,
        "run_id": run_id or os.environ.get("WANDB_RUN_ID") or generate_id(),
        "resume": "allow" if run_id else None,
        "git_commit": os.environ.get("WANDB_GIT_COMMIT") or revision,
    }
    if by_agent():
        options |= {"entity": os.environ.get("WANDB_ENTITY") or entity, "resume": None}
        config = flat(config)
    options = {key: value for key, value in options.items() if value is not None}
    run, mode = _start_in(mode, options, dict(config))
    _started = True
    if mode.mode == "online":
        hand_over_artifacts(run)
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)
    for metric, direction in objectives.items():
        best = "max" if direction == "maximize" else "min"
        run.define_metric(f"val/{metric}", step_metric=STEP, step_sync=True, summary=best)
    log.info("%s", _notice(run, mode))
    return SafeWandbLogger(
        failures=failures(),
        stop=stop,
        experiment=run,
        project=options["project"],
        save_dir=str(directory),
        log_model=log_model,
    )


def by_agent(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `wandb agent` started this process for a trial of its sweep."""
    return bool(environment.get("WANDB_SWEEP_ID"))


def forget_run() -> None:
    """Let the trials of this process have runs of their own, whatever the environment names."""
    for name in ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"):
        os.environ.pop(name, None)


def has_started() -> bool:
    """Whether this process has started a run."""
    return _started


def report_failure(reason: str) -> None:
    """Tell the sweep of `wandb agent` that its trial failed before its run began."""
    with tempfile.TemporaryDirectory() as directory:
        mode = choose_mode()
        options = {
            "root_dir": directory,
            "project": os.environ.get("WANDB_PROJECT") or "vaesweep",
            "run_id": os.environ["WANDB_RUN_ID"],
        }
        run, _ = _start_in(mode, options, {})
        run.summary.update({"status": "failed", "reason": reason})
        with suppress(*failures()):
            within(FINISH_SECONDS, lambda: run.finish(exit_code=1))


def logged_step(steps: int) -> int:
    """Where Lightning puts the metrics of a validation after so many steps: at the last of them."""
    return max(0, steps - 1)


def log_picture(logger: SafeWandbLogger, key: str, picture: NDArray[Any], step: int) -> None:
    """Log an image (H, W, 3), uint8, under a key that stays the same from run to run."""
    logger.log_pictures({key: logger.encoded(picture)}, step)


def log_table(logger: WandbLogger, key: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
    """Log rows with the same columns; a value (H, W, 1 or 3), uint8, is shown as an image."""
    import numpy as np
    import wandb
    from PIL import Image

    def shown(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return wandb.Image(Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value))
        return value

    cells = [[shown(value) for value in row.values()] for row in rows]
    table: Any = wandb.Table(columns=list(rows[0]), data=cells)
    logger.log_metrics({key: table}, step)


def finish(
    logger: SafeWandbLogger,
    *,
    status: str,
    reason: str | None = None,
    summary: Mapping[str, Any] | None = None,
) -> None:
    """End the run, saying how the trial ended (completed, pruned, interrupted or failed).

    Waits for the server for `FINISH_SECONDS` at most (`WANDB_FINISH_TIMEOUT`).
    """
    run = logger.experiment
    exit_code = {"completed": 0, "pruned": 0, "interrupted": 255}.get(status, 1)

    def end() -> None:
        run.summary.update({"status": status, "reason": reason, **(summary or {})})
        seconds = run.settings.finish_timeout or FINISH_SECONDS
        try:
            ended = within(seconds + CLIENT_SECONDS, lambda: run.finish(exit_code=exit_code))
        except TimeoutError:
            ended = True  # but the server did not
        else:
            if ended:
                return
        log.warning(
            "W&B: the server did not take everything in time; for the rest: %s",
            sync_command(Path(run.settings.sync_dir), online=True),
        )
        if not ended:
            end_client(seconds=0)

    logger.attempt(end)
    if logger.lost:
        end_client()  # for the trials to come


def describe(logger: SafeWandbLogger) -> dict[str, str]:
    """What the record keeps of a run: its id, path, address, folder and mode."""
    run = logger.experiment
    if run.disabled:
        return {"id": "", "path": "", "url": "", "directory": "", "mode": "disabled"}
    return {
        "id": str(run.id),
        "path": str(run.path),
        "url": "" if run.offline else str(run.url or ""),
        "directory": str(run.settings.sync_dir),
        "mode": "offline" if run.offline else "online",
    }


def sync_command(run_directory: Path, *, online: bool = False) -> str:
    """The command that uploads a run, made offline or (`online`) cut short."""
    run_directory = run_directory.absolute()
    with suppress(ValueError):
        run_directory = run_directory.relative_to(Path.cwd())
    return f"wandb sync {'--include-online ' if online else ''}{shlex.quote(str(run_directory))}"


def _start_in(mode: Mode, options: dict[str, Any], config: dict[str, Any]) -> tuple[Any, Mode]:
    """A run in the wanted mode or, where that fails, offline, or else disabled; and its mode."""
    global _last_failure
    if mode.mode == "online" and _last_failure and time.monotonic() < _last_failure[0]:
        mode = Mode("offline", _last_failure[1])
    with telemetry_off():
        try:
            return _init(mode, options, config), mode
        except failures() as error:
            failure = _first_line(error)
        if mode.mode == "online":
            _clear(options)
            mode = Mode("offline", f"it could not start online ({failure})")
            _last_failure = time.monotonic() + RETRY_SECONDS, mode.reason
            return _start_in(mode, options, config)
        mode = Mode("disabled", f"its client does not start ({failure})")
        return _init(mode, options, config), mode


def _init(mode: Mode, options: dict[str, Any], config: dict[str, Any]) -> Any:
    import wandb

    limits = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS}
    values: dict[str, Any] = {
        **_SILENCE,
        # Without what the environment sets, because arguments override it.
        **{key: v for key, v in limits.items() if f"WANDB_{key.upper()}" not in os.environ},
        **options,
        "mode": mode.mode,
        "reinit": "create_new",  # leaves the process's global run alone
        "save_code": False,
        "x_save_requirements": False,  # 0.1 s a run; the record has the versions
        "finish_timeout_raises": True,
    }
    try:
        settings = wandb.Settings(**values)
    except (ValueError, wandb.errors.UsageError) as error:
        raise UserError(f"W&B does not accept `logger`: {_first_line(error)}") from error
    wandb.setup(wandb.Settings(**_SILENCE))  # for what happens before a run has settings
    return wandb.init(config=config, settings=settings)


def _clear(options: dict[str, Any]) -> None:
    """Forget a failed online start.

    Its id would stay in use in the client's process, so that ends; and its directory would be
    taken for a run by `wandb sync`.
    """
    end_client()
    run_id = glob.escape(options["run_id"])
    for path in Path(options["root_dir"]).glob(f"*wandb/run-*-{run_id}*"):
        shutil.rmtree(path, ignore_errors=True)


def _notice(run: Any, mode: Mode) -> str:
    if mode.mode == "online":
        return f"W&B is online: {run.url or f'run {run.id}'}"
    if mode.mode == "disabled":
        return f"W&B is disabled: {mode.reason}"
    return f"W&B is offline: {mode.reason}; later: {sync_command(Path(run.settings.sync_dir))}"


def _default_url() -> str:
    """The server that the installed client uses where nobody names one."""
    from wandb.sdk.lib import urls

    return urls.DEFAULT_BASE_URL


def _first_line(error: Exception) -> str:
    if hasattr(error, "errors"):  # pydantic's ValidationError
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(": ")
