"""A worker rank that rank 0 of a trial has started."""

from experiments.machine.parent import ending_with_command

with ending_with_command():  # first: what follows loads and waits for minutes
    from experiments.ranks.environment import place
    from experiments.ranks.worker_rank import run_worker_rank

    here = place()
    assert here is not None, "only a trial starts this module"
    run_worker_rank(here)
