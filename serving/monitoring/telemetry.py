"""What Prometheus reads of a service."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

OBJECTIVE_SECONDS = 1.0
"""99 % of the requests should be answered within; a bound of the histogram."""

MOST_MORE_BYTES = 300 * 2**20
"""That all requests together may take beyond what the service has when it starts."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, OBJECTIVE_SECONDS, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ("route", "method", "status")
        self.requests = Counter("vaesweep_requests", "Requests answered", labels, registry=registry)
        self.seconds = Histogram(
            "vaesweep_request_seconds",
            "Time from a request to the end of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "vaesweep_batch_images",
            "Images computed together",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        )
        self.model = Info("vaesweep_model", "The model that is served", registry=registry)
        self._queue = Gauge(
            "vaesweep_queue_requests",
            "Requests that wait for a part of the network",
            ("part",),
            registry=registry,
        )
        self._limit = Gauge(
            "vaesweep_queue_limit", "Requests that may wait for a part", registry=registry
        )
        self._memory = Gauge(
            "vaesweep_memory_bytes", "Of the service and its decoders", registry=registry
        )
        self._expected = Gauge(
            "vaesweep_memory_expected_bytes",
            "That no requests should make it exceed",
            registry=registry,
        )
        self._ready = Gauge("vaesweep_ready", "Whether requests are welcome", registry=registry)
        self._drift = Gauge(
            "vaesweep_drift",
            "Distance of recent photos from the validation images",
            ("kind",),
            registry=registry,
        )
        self._threshold = Gauge(
            "vaesweep_drift_threshold",
            "Above which photos count as different",
            ("kind",),
            registry=registry,
        )
        self._photos = Gauge(
            "vaesweep_drift_photos", "Photos that drift is measured over", registry=registry
        )

    def watch_queues(self, limit: int, **lengths: Callable[[], int]) -> None:
        """Read the length of each part's queue from its function whenever it is asked for."""
        self._limit.set(limit)
        for part, length in lengths.items():
            self._queue.labels(part).set_function(length)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Read from `ready` whether requests are welcome, whenever it is asked for."""
        self._ready.set_function(ready)

    def watch_memory(self, processes: Callable[[], Sequence[int]]) -> None:
        """Read the memory of this process and others whenever it is asked for."""

        def all_of_it() -> float:
            return sum(map(_resident, [os.getpid(), *processes()]))

        self._expected.set(all_of_it() + MOST_MORE_BYTES)
        self._memory.set_function(all_of_it)

    def set_thresholds(self, **thresholds: float) -> None:
        """Of the kinds of drift."""
        for kind, threshold in thresholds.items():
            self._threshold.labels(kind).set(threshold)

    def set_drift(self, photos: int, values: dict[str, float]) -> None:
        """What was measured over how many photos."""
        self._photos.set(photos)
        for kind, value in values.items():
            self._drift.labels(kind).set(value)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)


def _resident(process: int) -> int:
    """Bytes of a process in memory; 0 where none is, or Linux is not."""
    try:
        statm = Path(f"/proc/{process}/statm").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(statm.split()[1]) * resource.getpagesize()
