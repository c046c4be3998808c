"""The config of a trial: its types, its checks, and what somebody else's may decide."""

from experiments.config.composition import (
    FITS,
    MEMORY_FORMATS,
    PRECISIONS,
    PROFILERS,
    REPORTS,
    SCHEDULES,
    compose,
    is_meant,
    objectives,
    plain,
    register,
    validate,
)
from experiments.config.named import LOGGERS, SOURCES

__all__ = [
    "FITS", "LOGGERS", "MEMORY_FORMATS", "PRECISIONS", "PROFILERS", "REPORTS", "SCHEDULES",
    "SOURCES", "compose", "is_meant", "objectives", "plain", "register", "validate",
]  # fmt: skip
