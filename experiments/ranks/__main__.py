"""A process that rank 0 of a trial has started."""

from experiments.ranks.environment import place
from experiments.ranks.follow import follow

here = place()
assert here is not None, "only a trial starts this module"
follow(here)
