"""The config of a trial: its types, its checks, and what somebody else's may decide."""

from experiments.config.composition import (
    DATA,
    LOGGERS,
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

__all__ = [
    "DATA", "LOGGERS", "MEMORY_FORMATS", "PRECISIONS", "PROFILERS", "REPORTS", "SCHEDULES",
    "compose", "is_meant", "objectives", "plain", "register", "validate",
]  # fmt: skip
