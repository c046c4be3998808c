"""A worker rank, a process of a trial other than rank 0: it trains along and writes nothing."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from experiments.config import objectives
from experiments.errors import UserError, is_disk_full
from experiments.machine.loading import loading
from experiments.ranks.environment import Place, be_rank_zero, ranks_hidden

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_DAYS = 7  # rank 0 may have any number of images to prepare; if it dies, the heartbeat tells


def run_worker_rank(place: Place) -> NoReturn:
    """Train what rank 0 says, and exit as it says."""
    for number in (signal.SIGINT, signal.SIGTERM):  # rank 0 hears them as well, and decides
        signal.signal(number, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with ranks_hidden(), loading():
        from experiments.ranks.heartbeat import Heartbeat
        from experiments.ranks.rendezvous import rendezvous
        from models.ranks.group import LostRankError

    be_rank_zero()
    store = rendezvous(place)
    heartbeat = Heartbeat(store, place.rank, place.world)
    heartbeat.start()
    try:
        _train(place, store)
    except LostRankError:
        pass  # rank 0 finds out who is lost
    except BaseException as error:  # noqa: BLE001  # rank 0 says it
        known = isinstance(error, UserError)
        text = str(error) if known else traceback.format_exc().strip()
        kind = "full" if is_disk_full(error) else "error"
        store.set(kind, f"process {place.rank} of {place.world} failed: {text}")
        sys.stderr.flush()
        os._exit(1)
    heartbeat.join()
    os._exit(0)


def _train(place: Place, store: Store) -> None:
    from datetime import timedelta

    from experiments import building
    from experiments.machine.device import choose_hardware, of_rank, restore_random_state
    from experiments.ranks.rendezvous import connect, disconnect, unpacked

    with loading():
        from experiments.callbacks import Scores
        from experiments.resume import Continuing
        from experiments.training import fit, quiet_lightning
        from models.ranks.group import Ranks

    store.wait(["message"], timedelta(days=_DAYS))
    message = unpacked(store.get("message"))
    config, ranks = message["config"], Ranks(place.rank, place.world)
    images = building.load(config)
    if images.fingerprint != message["fingerprint"]:
        raise UserError(
            "all processes of a trial must find the same images, but this one, on "
            f"{os.uname().nodename}, finds others in {images.source}"
        )
    device = of_rank(config["trainer"]["device"], place.local_rank)
    hardware = choose_hardware(device=device, **message["hardware"])
    data, when, _, vae = building.build(config, images, hardware, ranks)
    store.set(f"ready/{place.rank}", "")
    connect(store, place.rank, place.world, hardware.device)
    restore_random_state(message["random_state"], vae.device)
    with quiet_lightning():
        fit(
            vae,
            data,
            config,
            directory=Path(message["directory"]),
            hardware=hardware,
            when=when,
            loggers=[],
            callbacks=[Continuing(), Scores(None, objectives(config)[0])],
            last=Path(message["last"]) if message["last"] is not None else None,
            ranks=ranks,
        )
    disconnect(in_order=True)
