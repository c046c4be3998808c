"""A client of Optuna's gRPC proxy that outlasts its restarts, and claims a trial once."""

from __future__ import annotations

import json
from collections.abc import Sequence

from optuna.storages import GrpcStorageProxy
from optuna.trial import TrialState

from sweeps import contests
from sweeps.databases import RESTART_SECONDS

_WAIT_FOR_READY = {
    "methodConfig": [{"name": [{}], "waitForReady": True, "timeout": f"{RESTART_SECONDS:g}s"}]
}
"""gRPC's service config: a call waits for a connection instead of failing without one."""


class PatientProxy(GrpcStorageProxy):
    """Optuna's client, whose calls can be told to wait while the proxy restarts.

    A call that had already been sent fails: whether the proxy has done it is not known.
    """

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a waiting trial begins for one worker only, whatever database is behind."""
        if state == TrialState.WAITING:
            contests.begin_anew(self, trial_id)
        is_set = super().set_trial_state_values(trial_id, state, values)
        return is_set and (state != TrialState.RUNNING or contests.is_won(self, trial_id))

    def wait_for_restarts(self) -> None:
        """Let every call from now on wait for the proxy, for 30 s at most."""
        import grpc
        from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
        from optuna.storages._grpc.client import GrpcClientCache

        self.close()
        self._channel = grpc.insecure_channel(
            f"{self._host}:{self._port}",
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.service_config", json.dumps(_WAIT_FOR_READY)),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ],
        )
        self._stub = StorageServiceStub(self._channel)
        self._cache = GrpcClientCache(self._stub)
