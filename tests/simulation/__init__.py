"""A world in which the protocol of a sweep runs through many bad days in a second.

The protocol's own classes run here, over Optuna's storage in memory. The world owns the clock,
the processes, the disk and every call of the storage; all that happens in it follows from one
number, the seed, so that a history which breaks a promise can be replayed:

    python -m tests.simulation --seed 4711
    python -m tests.simulation --schedules 100000
    python -m tests.simulation --mutations

The last says how many schedules it takes to find each fault of the past, put back. `schedule` is
the day, `settings` what is swept in it, `programs` who works, `storage` and `world` where, and
`promises` what must hold.

A model's limits: each file of a record is replaced in one step, the storage is one server that is
there or away for all at once, and a study is not rebuilt for a wider grid.
"""
