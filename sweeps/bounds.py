"""Every time that the protocol of a sweep waits, and how these times depend on each other.

All but the last three are seconds, of a clock that never goes back (see `sweeps.system`), and are
multiplied alike by VAESWEEP_WAITS (see `experiments.machine.waits`).
"""

from __future__ import annotations

from experiments.machine.waits import scaled
from experiments.record.fence import LOCK_SECONDS

HEARTBEAT = scaled(3.0)
"""Between two signs of life of a worker that holds a trial."""
LOOK = scaled(2.0)
"""Between two looks of a command at the trials of its workers."""
POLL = scaled(0.5)
"""Between two looks of a worker that waits for something to do, on average, at first."""
LONGEST_POLL = scaled(2.0)
"""And in the end: each is a twentieth of the wait so far."""
STORAGE_CALL = scaled(10.0)
"""One call of the storage waits so long for a database file that others write."""
RETRY_WINDOW = scaled(60.0)
"""For so long a call is repeated while the storage is away; then its worker gives up."""
LOCK_WAIT = scaled(30.0)
"""For so long a worker waits for the others to release the study's lock, before it tries again."""
RECORD_LOCK_WAIT = scaled(LOCK_SECONDS)
"""For so long a worker waits for the lock of a record, which is held for milliseconds."""
SUSPICION = scaled(10.0)
"""Of silence, after which whoever watches proves by writes of its own that others can write."""
LONGEST_GAP = scaled(5.0)
"""Between two such writes; what lies between two that are further apart counts as no silence."""
LEASE_TIMEOUT = scaled(90.0)
"""Of proven silence, after which a trial goes to another worker."""
ANSWER = scaled(30.0)
"""For so long a command at its end waits for the storage, before it leaves the rest to the next."""
DEATHS_IN_A_ROW = 3
"""Workers that die one after another while no trial gets on; then something else is wrong."""
DEATHS_TOGETHER = 10
"""Deaths of a trial's worker before it began, or together with its command, without progress."""
TELLS = 10
"""Retries more of a trial whose record is finished, so that only the study has to hear of it."""

assert 3 * HEARTBEAT < SUSPICION < LEASE_TIMEOUT, "a missed heartbeat is no suspicion"
assert max(LOOK, 1.5 * LONGEST_POLL) < LONGEST_GAP, "looks in a row leave no gap"
assert RETRY_WINDOW + 2 * STORAGE_CALL + HEARTBEAT < LEASE_TIMEOUT, (
    "a call that fails is given up before anybody takes a trial for want of it"
)
assert LOCK_WAIT < RETRY_WINDOW, "one that waits for a lock tries again"
assert STORAGE_CALL < RETRY_WINDOW, "one that waits for a file tries again"
assert RECORD_LOCK_WAIT < LEASE_TIMEOUT, "the heart beats on meanwhile, or is not missed"
