"""A world in which the protocol of a sweep runs through many bad days in a second.

The protocol's own classes run here, over Optuna's storage in memory. The world owns the clock,
the processes, the disk and every call of the storage; all that happens in it follows from one
number, the seed, so that a history which breaks a promise can be replayed:

    python -m tests.simulation --seed 4711
    python -m tests.simulation --schedules 100000

A model's limits: a record's file is replaced in one step, and the storage is one server that is
there or away for all at once.
"""
