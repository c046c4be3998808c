"""Imports what a training needs: loaded once, in the process from which the workers fork.

That process ends with the command, also while it loads: whoever reads what a command prints would
otherwise wait for it, for seconds, after a mistake that was told at once.
"""

import ctypes
import signal

from experiments.loading import loading
from experiments.ranks import ranks_hidden

_PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

with loading(), ranks_hidden():
    import sweeps.training
    import sweeps.worker  # noqa: F401
