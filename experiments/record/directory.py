"""What a trial leaves on disk: everything else can be rebuilt from it."""

from __future__ import annotations

import json
import math
import platform
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.machine.code import changes, code_revision, package_versions
from experiments.record.fence import LOCK_FILE, OWNER_FILE, writing
from experiments.record.files import remove, replacing
from experiments.record.foreign import parsed, read_bytes, read_json

SCHEMA_VERSION = 1
"""Of result.json; raised when older readers can no longer read it."""

CONFIG = "config.json"
RESULT = "result.json"
HISTORY = "history.jsonl"
LAST = "checkpoints/last.ckpt"
"""What a trial continues from: its state between two epochs, until it ends."""
KL_WEIGHT = "kl_weight"
"""In a row of the history: the share of `beta` that the last step was trained at."""
_MOST_HISTORY = 2**28  # bytes
STUDY = "study"
"""In result.json: whose trial it is (see `record.membership`); a single run has none."""
RERUN_OF = "rerun_of"  # in the result of a trial that was trained again: the first one's record
CLAIM = ".trial.json"
"""In the directory of a sweep's trial, before its record begins: whose it is."""
_EARLY = {".hydra", "run.log", CLAIM, OWNER_FILE, LOCK_FILE}  # written before a trial begins
UNFINISHED = ("running", "interrupted")
STATUSES = (*UNFINISHED, "completed", "pruned", "failed")


class Record:
    """The directory of a trial.

    Written from the start of training on, so that a trial that is killed leaves a record with
    the status "running". Every file is replaced whole.

    Attributes:
        directory: of the trial, absolute.
        result: the content of result.json.
    """

    def __init__(
        self,
        directory: str | Path,
        config: Mapping[str, Any],
        study: Mapping[str, Any] | None = None,
        rerun_of: str | None = None,
    ) -> None:
        self.directory = Path(directory).absolute()
        self._config = config
        self._started = time.monotonic()
        self._earlier: dict[str, float] = {}
        self.result: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "status": "running",
            "reason": None,
            "name": config["name"],
            "seed": config["seed"],
            "parameters": flat(config),
            "metrics": {},
            "timings": {},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "code": code_revision(),
            "python": platform.python_version(),
            "packages": package_versions(),
        }
        if study is not None:
            self.result[STUDY] = dict(study)
        if rerun_of is not None:
            self.result[RERUN_OF] = rerun_of

    def path(self, name: str) -> Path:
        """Of a file of the record."""
        return self.directory / name

    def begin(self) -> None:
        """Write the config and the first result.json."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # JSON is YAML, so the config can be read by either.
        write_json(self.path(CONFIG), self._config)
        self.save()

    def resume(self, earlier: Mapping[str, Any]) -> dict[str, list[str]]:
        """Continue the record whose result.json was `earlier`: its times add up.

        Returns:
            What changed of the code since: what it was and is, by name. The record keeps it.
        """
        self._earlier = dict(earlier["timings"])
        changed = changes(earlier, self.result)
        session = {"started": self.result["started"], "changed": changed}
        self.result |= {
            "started": earlier["started"],
            "resumed": [*earlier.get("resumed", []), session],
            "timings": dict(self._earlier),
        }
        if "wandb" in earlier:
            self.result["wandb"] = earlier["wandb"]
        return changed

    def seconds(self) -> float:
        """Since the record was made or resumed."""
        return time.monotonic() - self._started

    def took(self, name: str, seconds: float) -> None:
        """Note the seconds that something took in this session, in result.json's timings."""
        total = self._earlier.get(f"{name}_seconds", 0.0) + seconds
        self.result["timings"][f"{name}_seconds"] = round(total, 3)

    def update(self, **values: Any) -> None:
        """Change entries of result.json and write it."""
        self.result.update(values)
        self.save()

    def save(self) -> None:
        """Write result.json with the time that has passed."""
        self.took("total", self.seconds())
        write_json(self.path(RESULT), self.result)

    def add_history(self, row: Mapping[str, float]) -> None:
        """Append a row of metrics to history.jsonl."""
        path = self.path(HISTORY)
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(row)) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return read_history(self.directory)

    def keep_history(self, epochs: int) -> None:
        """Remove the rows after so many epochs."""
        rows = [json.dumps(row) + "\n" for row in self.history() if row["epoch"] < epochs]
        with replacing(self.path(HISTORY)) as temporary:
            temporary.write_text("".join(rows), encoding="utf-8")

    def end(self, status: str, reason: str | None = None, *, may_go_on: bool = False) -> None:
        """Write how the trial ended; what it could continue from goes only once that is written.

        Args:
            status: of the record from now on.
            reason: why.
            may_go_on: it keeps that even where it is not interrupted (see `reopen`).
        """
        assert status in STATUSES
        self.update(status=status, reason=reason)
        if status not in UNFINISHED and not may_go_on:
            remove(self.path(LAST))


def reopen(directory: str | Path, epochs: int) -> None:
    """Let a trial that was pruned after so many epochs go on, as one that was interrupted does.

    Where it was pruned again since, or its record is on another machine, nothing changes.
    """
    try:
        result = read_result(directory)
    except UserError:
        return
    if result["status"] == "pruned" and result["epochs"] <= epochs:
        write_json(Path(directory) / RESULT, {**result, "status": "interrupted"})


def read_config(directory: str | Path) -> dict[str, Any]:
    """The config in the record of a trial, as it was written (see `experiments.config.decided`).

    Raises:
        UserError: there is no such record, or it is broken.
    """
    return _read(Path(directory), CONFIG)


def read_result(directory: str | Path) -> dict[str, Any]:
    """The content of result.json.

    Raises:
        UserError: there is none, it is broken, or a newer version wrote it.
    """
    result = _read(Path(directory), RESULT)
    if result.get("schema") != SCHEMA_VERSION:
        raise UserError(
            f"a record must have schema {SCHEMA_VERSION}, but {Path(directory) / RESULT} has "
            f"{result.get('schema')!r}; use the version of vaesweep that wrote it"
        )
    return result


def read_history(directory: str | Path) -> list[dict[str, Any]]:
    """The rows of history.jsonl, without one that a killed process left unfinished.

    Raises:
        UserError: it is broken.
    """
    path = Path(directory) / HISTORY
    try:
        lines = read_bytes(path, _MOST_HISTORY).splitlines(keepends=True)
        rows = parsed(b"[" + b",".join(x for x in lines if x.endswith(b"}\n")) + b"]")
        for row in rows:
            if not isinstance(row, dict) or type(row.get("epoch")) is not int:
                raise ValueError("a row has no epoch")
            if not all(isinstance(value, int | float | None) for value in row.values()):
                raise ValueError("a row holds what is no number")
    except FileNotFoundError:  # nothing was validated yet
        return []
    except (OSError, ValueError) as error:
        raise UserError(
            f"a record's {HISTORY} must be rows of numbers, but {path}: {error}"
        ) from error
    return list(rows)


def at_full_weight(history: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that may choose a model: none of a model that was trained at less than its `beta`.

    All of those of older versions, which did not keep the weight.
    """
    weights = ((row, row.get(KL_WEIGHT)) for row in history)
    # In a table of new and old rows, those of the old have NaN.
    return [row for row, weight in weights if weight is None or not weight < 1]


def hardware_settings(result: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `trainer` with which a trial computes as the one of `result` did."""
    hardware = result["hardware"]
    return {
        "threads": hardware["threads"],
        "precision": hardware["precision"],
        "memory_format": "channels_last" if hardware["channels_last"] else "contiguous",
    }


def write_json(path: Path, content: Any) -> None:
    """Replace a file by JSON, whole or not at all; NaN and infinity become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def discard(directory: Path, also: Collection[str] = ()) -> None:
    """Remove the directory of a trial that never began.

    A directory that holds anything that is not there before a trial (or in `also`) is left alone.
    Parents that only held it go as well, below the working directory: elsewhere they may be
    somebody's.
    """
    if not directory.is_dir() or {p.name for p in directory.iterdir()} - _EARLY - set(also):
        return
    with writing(directory / RESULT):
        shutil.rmtree(directory, ignore_errors=True)
    for parent in directory.absolute().parents:
        if Path.cwd() not in parent.parents or any(parent.iterdir()):
            return
        parent.rmdir()


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loss": {"name": "mse"}} to {"loss.name": "mse"}."""
    pairs: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            pairs.update(flat(value, f"{prefix}{key}."))
        else:
            pairs[f"{prefix}{key}"] = value
    return pairs


def _read(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"a record is a trial's directory with {name}, but {path} gives: {error}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, but holds {type(content).__name__}")
    return content


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
