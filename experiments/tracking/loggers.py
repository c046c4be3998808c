"""Where a trial's metrics and pictures go besides its record.

A logger is one of Lightning's. One that is `ShowsPictures` gets pictures as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial, wraps
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from experiments.config import LOGGERS, objectives
from experiments.errors import Superseded, UserError, is_disk_full
from experiments.machine.signals import exits_told
from experiments.metrics import METRICS
from experiments.record import CONFIG, LAST, RESULT, Record, discard
from experiments.record.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_CALLED = (
    "log_metrics", "log_hyperparams", "log_graph", "encoded", "log_pictures", "save", "finalize",
    "after_save_checkpoint",
)  # fmt: skip


@runtime_checkable
class ShowsPictures(Protocol):
    """A logger of Lightning's that takes pictures."""

    def encoded(self, picture: NDArray[Any]) -> Any:
        """A picture (H, W, 3), uint8, as `log_pictures` takes it; made beside the training."""

    def log_pictures(self, pictures: Mapping[str, Any], step: int) -> None:
        """Log pictures under names that stay the same, after so many steps."""


def continues_at(record: Record) -> int | None:
    """The first step that a continued trial logs; None for one that begins.

    An earlier session that was killed may have logged this step and later ones already, which a
    logger has to take back, since they come again.
    """
    if not record.result.get("resumed"):
        return None
    return int(read_checkpoint(record.path(LAST))["global_step"])


@contextmanager
def open_loggers(config: Mapping[str, Any], record: Record) -> Iterator[list[Any]]:
    """The loggers that the config names, closed whatever happens.

    Raises:
        UserError: one cannot be opened, as where a package is missing or W&B does not accept the
            settings; nothing is left behind of a trial that never began.
    """
    name = config["logger"]["name"]
    opener = LOGGERS[name]
    with ExitStack() as stack:
        loggers = []
        if opener is not None:
            try:
                loggers.append(_opened(stack, opener, config, record))
            except Superseded:
                raise
            except BaseException as error:
                discard(record.directory, also={RESULT, CONFIG, name})
                if record.directory.exists():  # what it continues from
                    record.end("interrupted", f"its logger was not opened: {error}")
                raise
        yield loggers


def _opened(stack: ExitStack, opener: str, config: Mapping[str, Any], record: Record) -> Any:
    from pytorch_lightning.loggers import Logger

    safe = _Outlived(config["logger"]["name"])
    try:
        with exits_told():
            context = resolve_name(opener)(config, record)
            logger = context.__enter__()
    except Exception as error:
        if isinstance(error, UserError | Superseded) or is_disk_full(error):
            raise
        raise _no_logger(config, opener, f"{type(error).__name__}: {error}") from error
    stack.push(safe.closing(context))
    if not isinstance(logger, Logger):
        raise _no_logger(config, opener, f"{type(logger).__name__}")
    for method in filter(partial(hasattr, logger), _CALLED):
        setattr(logger, method, safe.calling(getattr(logger, method)))
    return logger


class _Outlived:
    """What a trial calls of a logger, which may fail then: it costs its own logs, told once.

    Args:
        name: of the logger.
    """

    def __init__(self, name: str) -> None:
        self._name, self._is_lost = name, False

    def calling(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the logger, which does nothing once one has failed."""

        @wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            if self._is_lost:
                return None
            with self._told():
                return method(*arguments, **options)

        return call

    def closing(self, context: AbstractContextManager[Any]) -> Callable[..., None]:
        """The end of the logger's context, which hides no failure of the trial."""

        def close(kind: Any, error: BaseException | None, where: Any) -> None:
            with self._told(error):
                context.__exit__(kind, error, where)

        return close

    @contextmanager
    def _told(self, known: BaseException | None = None) -> Iterator[None]:
        try:
            with exits_told():
                yield
        except Exception as error:
            if error is known or isinstance(error, Superseded) or is_disk_full(error):
                raise
            if not self._is_lost:
                log.warning(
                    "`logger=%s`: logging stopped, because it failed (%s: %s); the trial goes on",
                    self._name, type(error).__name__, error,
                    exc_info=log.isEnabledFor(logging.DEBUG),
                )  # fmt: skip
            self._is_lost = True


def _no_logger(config: Mapping[str, Any], opener: str, got: str) -> UserError:
    return UserError(
        f"`logger={config['logger']['name']}` must open one of Lightning's loggers, but {opener} "
        f"gives {got}; mend it, or give another logger"
    )


def run_settings(config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What `tracking.wandb.run.start` is told of a trial, from its config and result.json."""
    settings = config["logger"]
    title = f"{config['loss']['name']} z{config['latent_dim']} lr{config['lr']:g}"
    return {
        "project": settings["project"],
        "entity": settings["entity"],
        "name": f"{title} seed{config['seed']}",
        "group": settings["group"] or config["name"],
        "tags": [config["loss"]["name"], config["data"]["name"], *settings["tags"]],
        "config": dict(config),
        # W&B's own best would be one of those while the KL's weight warms up.
        "objectives": {}
        if config["kl"]["warmup_epochs"]
        else {name: METRICS[name].direction for name in objectives(config)},
        "revision": result["code"]["commit"],
    }


def run_summary(config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says at its end, from the trial's config and result.json."""
    summary = {
        f"final/{split}/{name}": value
        for split, metrics in result["metrics"].items()
        for name, value in metrics.items()
    }
    best = result["metrics"].get("val", {}).get(objectives(config)[0])
    if best is not None and math.isfinite(best):
        summary["objective"] = best
    return summary | {"code_changed_since_commit": result["code"]["dirty"]}


@contextmanager
def open_wandb(config: Mapping[str, Any], record: Record) -> Iterator[Any]:
    """The run of a trial, which is ended whatever happens.

    Raises:
        UserError: W&B does not accept the settings.
    """
    from experiments.tracking.wandb import run as wandb_run
    from experiments.tracking.wandb.client import end_client

    logger = wandb_run.start(
        record.directory,
        **run_settings(config, record.result),
        run_id=record.result.get("wandb", {}).get("id") or None,
        log_model=config["logger"]["log_model"],
    )
    record.update(wandb=wandb_run.describe(logger))
    try:
        try:
            yield logger
        except Superseded:
            raise
        except BaseException:
            _finish(logger, config, record)
            raise
        _finish(logger, config, record)
    except Superseded:
        end_client(seconds=0)  # the run is another process's, which goes on with it
        raise


def _finish(logger: Any, config: Mapping[str, Any], record: Record) -> None:
    from experiments.tracking.wandb import run as wandb_run

    wandb_run.finish(
        logger,
        status=record.result["status"],
        reason=record.result["reason"],
        summary=run_summary(config, record.result),
    )
