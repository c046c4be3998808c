"""A client of Optuna's gRPC proxy that claims a trial once, whatever database is behind.

Optuna's gRPC proxy hands a claim on to its database, and SQLite lets two of the proxy's threads
read «waiting» before either writes «running»: both are told that they have the trial. So each
worker that was told so says in the trial that it wants it, and looks who else does (after Lamport
1974, "A New Solution of Dijkstra's Concurrent Programming Problem"). Whoever sees nobody else
owns the trial. Of two that see each other the one with the lower key waits until the other has
left; whoever comes later sees the first and leaves. All that is needed is that a worker reads what
was written before.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.trial import TrialState

BOUND_SECONDS = 5.0
"""How long a worker waits for another to decide; then the trial is left to be taken over."""

_WANTS, _OWNS, _LEFT = "wants", "owns", "left"
_POLL_SECONDS = 0.05


class OnceOnlyProxy(GrpcStorageProxy):
    """Optuna's client, which looks for a proxy that has restarted every two seconds."""

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a waiting trial begins for one worker only."""
        if state == TrialState.WAITING:
            begin_anew(self, trial_id)
        is_set = super().set_trial_state_values(trial_id, state, values)
        return is_set and (state != TrialState.RUNNING or is_won(self, trial_id))

    def reconnect_soon(self) -> None:
        """Let no call fail for want of a connection long after the proxy is back."""
        import grpc
        from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
        from optuna.storages._grpc.client import GrpcClientCache

        self.close()
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        self._channel = grpc.insecure_channel(f"{self._host}:{self._port}", options=options)
        self._stub = StorageServiceStub(self._channel)
        self._cache = GrpcClientCache(self._stub)


def is_won(
    storage: BaseStorage,
    trial_id: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether this worker, and no other, has a trial that the storage has just given it."""
    mine = f"{_prefix(trial_id)}{uuid.uuid4().hex}"
    end = clock() + BOUND_SECONDS
    storage.set_trial_system_attr(trial_id, mine, _WANTS)
    while True:
        others = {key: said for key, said in _said(storage, trial_id).items() if key != mine}
        if not others:
            storage.set_trial_system_attr(trial_id, mine, _OWNS)
            return True
        if _OWNS in others.values() or min(others) < mine or clock() > end:
            storage.set_trial_system_attr(trial_id, mine, _LEFT)
            return False
        sleep(_POLL_SECONDS)


def begin_anew(storage: BaseStorage, trial_id: int) -> None:
    """Forget who had a trial that is to wait again."""
    for key in _said(storage, trial_id):
        storage.set_trial_system_attr(trial_id, key, _LEFT)


def _said(storage: BaseStorage, trial_id: int) -> dict[str, str]:
    """What workers that have not left say about a trial; not about one that it continues."""
    attributes = storage.get_trial(trial_id).system_attrs
    prefix = _prefix(trial_id)
    return {k: said for k, said in attributes.items() if k.startswith(prefix) and said != _LEFT}


def _prefix(trial_id: int) -> str:
    return f"claim {trial_id} "
