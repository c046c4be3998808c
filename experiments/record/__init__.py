"""What a trial leaves on disk, whose it is, and who may write it."""

from experiments.record.directory import (
    CLAIM,
    CONFIG,
    HISTORY,
    KL_WEIGHT,
    LAST,
    RERUN_OF,
    RESULT,
    SCHEMA_VERSION,
    STATUSES,
    STUDY,
    UNFINISHED,
    Record,
    at_full_weight,
    discard,
    flat,
    hardware_settings,
    read_config,
    read_history,
    read_result,
    reopen,
    write_json,
)

__all__ = [
    "CLAIM", "CONFIG", "HISTORY", "KL_WEIGHT", "LAST", "RERUN_OF", "RESULT", "SCHEMA_VERSION",
    "STATUSES", "STUDY", "UNFINISHED", "Record", "at_full_weight", "discard", "flat",
    "hardware_settings", "read_config", "read_history", "read_result", "reopen",
    "write_json",
]  # fmt: skip
