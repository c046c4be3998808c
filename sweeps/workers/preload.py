"""Imports what a training needs: loaded once, in the process from which the workers fork.

That process ends with the command also while it loads: whoever reads what a command prints would
otherwise wait for it, for seconds, after a mistake that was told at once. Afterwards it has no
other thread, as a process that forks must not.
"""

import gc

from experiments.machine.loading import loading
from experiments.machine.parent import ending_with_command
from experiments.ranks.environment import ranks_hidden

with ending_with_command(), loading(), ranks_hidden():
    import sweeps.workers.training
    import sweeps.workers.worker  # noqa: F401
gc.freeze()  # memory that the collector leaves alone stays shared with the workers
