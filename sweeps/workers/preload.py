"""Imports what a training needs: loaded once, in the process from which the workers fork.

That process ends with the command also while it loads: whoever reads what a command prints would
otherwise wait for it, for seconds, after a mistake that was told at once.
"""

import gc
import os
import threading

from experiments.machine.loading import COMMAND, loading
from experiments.ranks.environment import ranks_hidden

_LOOK_SECONDS = 0.2


def _end_with(command: int, loaded: threading.Event) -> None:
    while not loaded.wait(_LOOK_SECONDS):
        if os.getppid() != command:
            os._exit(1)


_command = int(os.environ[COMMAND])  # which may have ended by now: then this is not its child
_loaded = threading.Event()
_watch = threading.Thread(target=_end_with, args=(_command, _loaded), daemon=True)
_watch.start()
try:
    with loading(), ranks_hidden():
        import sweeps.workers.training
        import sweeps.workers.worker  # noqa: F401
finally:
    _loaded.set()
    _watch.join()  # a process that forks has no other threads
gc.freeze()  # memory that the collector leaves alone stays shared with the workers
