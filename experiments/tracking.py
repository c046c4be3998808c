"""Weights & Biases, and nothing else, knows about Weights & Biases.

Whether to be online is decided before the client starts, in milliseconds, since the client itself
would hang for minutes or fail: without credentials, or without a server that accepts a
connection, a run is written to disk and can be brought to the server later.
"""

from __future__ import annotations

import logging
import netrc
import os
import socket
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from experiments.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pytorch_lightning.loggers import WandbLogger

DEFAULT_URL = "https://api.wandb.ai"
FINISH_SECONDS = 30.0
"""How long the end of a trial waits for the server; the rest can be synced later."""

_CONNECT_SECONDS = 1.0
_INIT_SECONDS = 20.0
_MODES = ("online", "offline", "disabled", "shared")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mode:
    """How a run is logged and why."""

    name: str
    reason: str


def choose_mode(environment: Mapping[str, str] = os.environ) -> Mode:
    """Online only with credentials and a server that accepts a connection; WANDB_MODE wins."""
    chosen = environment.get("WANDB_MODE", "").lower()
    chosen = {"dryrun": "offline", "run": "online"}.get(chosen, chosen)
    if chosen in _MODES:
        return Mode(chosen, f"WANDB_MODE={chosen}")
    if environment.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        return Mode("disabled", "WANDB_DISABLED is set")
    url = _base_url(environment)
    host = urlsplit(url).hostname or url
    if not _has_credentials(environment, host):
        return Mode("offline", f"no API key for {host} (`wandb login` or WANDB_API_KEY)")
    failure = _connection_failure(url, environment)
    if failure:
        return Mode("offline", f"{host} does not answer ({failure})")
    return Mode("online", host)


def start(
    directory: Path,
    *,
    project: str,
    entity: str | None,
    name: str,
    group: str,
    tags: list[str],
    config: dict[str, Any],
    objectives: Mapping[str, str],
) -> WandbLogger:
    """Start a run in `directory`/wandb; prints one line when it is not online.

    Args:
        directory: the trial's record.
        project: W&B project.
        entity: W&B user or team; None is the key's own.
        name: of the run.
        group: of the runs of a sweep.
        tags: of the run.
        config: plain values.
        objectives: metrics whose best value is the summary, with "maximize" or "minimize".

    Raises:
        UserError: the package wandb is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "`logger=wandb` needs the package wandb: pip install wandb, or logger=csv, logger=none"
        ) from error
    from pytorch_lightning.loggers import WandbLogger

    def init(mode: str) -> Any:
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", project),
            entity=entity,
            name=name,
            group=group,
            tags=tags,
            config=config,
            dir=directory,
            mode=mode,  # type: ignore[arg-type]
            # A trial never continues the run of the one before it in the same process.
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_INIT_SECONDS,
                finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", FINISH_SECONDS)),
            ),
        )

    mode = choose_mode()
    try:
        run = init(mode.name)
    except wandb.Error as error:
        if mode.name != "online":
            raise UserError(f"Weights & Biases cannot start: {error}") from error
        mode = Mode("offline", str(error).splitlines()[0])
        run = init("offline")
    if mode.name == "offline":
        log.info("W&B is offline: %s; later: %s", mode.reason, sync_command(Path(run.dir).parent))
    logger = WandbLogger(project=project, experiment=run)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    for metric, direction in objectives.items():
        run.define_metric(
            f"val/{metric}",
            step_metric="trainer/global_step",
            summary="max" if direction == "maximize" else "min",
        )
    return logger


def log_picture(logger: WandbLogger, key: str, picture: NDArray[Any], step: int) -> None:
    """Log an image (H, W, 3), uint8, under a key that stays the same from run to run."""
    import wandb

    logger.experiment.log({key: wandb.Image(picture), "trainer/global_step": step})


def finish(
    logger: WandbLogger, *, status: str, reason: str | None, summary: Mapping[str, Any]
) -> None:
    """End the run, saying how the trial ended; waits a bounded time for the server."""
    run = logger.experiment
    run.summary.update({"status": status, "reason": reason, **summary})
    run.finish(exit_code=0 if status in ("completed", "pruned") else 1)


def describe(logger: WandbLogger) -> dict[str, str]:
    """What the record keeps of a run: its id, path, address, folder and mode."""
    run = logger.experiment
    offline = bool(getattr(run, "offline", False))
    return {
        "id": str(run.id),
        "path": str(run.path),
        "url": "" if offline else str(run.url or ""),
        "directory": str(Path(run.dir).parent),
        "mode": "offline" if offline else "online",
    }


def sync_command(run_directory: Path) -> str:
    """The command that brings an offline run to the server."""
    try:
        run_directory = run_directory.absolute().relative_to(Path.cwd())
    except ValueError:
        run_directory = run_directory.absolute()
    return f"wandb sync {run_directory}"


def _base_url(environment: Mapping[str, str]) -> str:
    url = environment.get("WANDB_BASE_URL")
    if url:
        return url
    folder = environment.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb"
    for settings in (Path(folder) / "settings", Path("wandb") / "settings"):
        parser = ConfigParser()
        with suppress(OSError, ConfigParserError, UnicodeDecodeError):
            parser.read(settings)
            url = parser.get("default", "base_url", fallback=None) or url
    return url or DEFAULT_URL


def _has_credentials(environment: Mapping[str, str], host: str) -> bool:
    if environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = environment.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        with suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
    return False


def _connection_failure(url: str, environment: Mapping[str, str]) -> str | None:
    """Why no connection to the server (or the proxy before it) is accepted; None if one is."""
    parts = urlsplit(url)
    proxies = {
        name.lower().removesuffix("_proxy"): value
        for name, value in environment.items()
        if name.lower().endswith("_proxy") and value
    }
    host = parts.hostname or ""
    if parts.scheme in proxies and not proxy_bypass_environment(host, proxies):
        parts = urlsplit(proxies[parts.scheme])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
