"""Optuna's storages with what no sweep of ours has put there."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from sweeps.storage.attributes import STUDY
from tests.hostile.files import Made, kind, wrong_values
from tests.hostile.records import sweep_of

Change = Callable[[sqlite3.Connection], object]


def study_of(path: Path, trials: list[Path]) -> None:
    """A study as a sweep's workers leave it, of records that lie there."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(study_name="vae", storage=f"sqlite:///{path}", direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["psnr"])
    study.set_user_attr("study_id", "a")
    study.set_user_attr(
        STUDY,
        {"schema": _schema(), "space": {}, "base": {"loss.name": "mse"}, "objectives": ["psnr"]},
    )
    for number, directory in enumerate(trials):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(1e-5, 1)})
        trial.set_user_attr("directory", str(directory))
        trial.set_user_attr("seed", number)
        study.tell(trial, 20.0 + number)


def _schema() -> int:
    from sweeps.study.definition import SCHEMA_VERSION

    return SCHEMA_VERSION


def _attribute(key: str, text: str, table: str = "trial_user_attributes") -> Change:
    owner = "trial_id" if table.startswith("trial") else "study_id"

    def write(db: sqlite3.Connection) -> None:
        db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
        db.execute(f"INSERT INTO {table} ({owner}, key, value_json) VALUES (1, ?, ?)", (key, text))

    return write


@kind
def stores(folder: Path, honest: Path, random: Random) -> Made:
    trials = sweep_of(folder, honest, 2)
    base = folder / "honest.db"
    study_of(base, trials)
    deep, nested = "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900
    changes: dict[str, Change] = {
        "an attribute that is no JSON": _attribute("directory", "{"),
        "a deep attribute": _attribute("directory", deep),
        "a deep design": _attribute("design", deep, "study_user_attributes"),
        "a nested design": _attribute("design", nested, "study_user_attributes"),
        "a directory that is a list": _attribute("directory", '["a"]'),
        "a directory of escapes": _attribute("directory", '"\\u001b]0;owned\\u0007"'),
        "a directory with a zero": _attribute("directory", '"a\\u0000b"'),
        "a huge directory": _attribute("directory", json.dumps("x" * 2**24)),
        "a number that failed, of text": _attribute(
            "failed_trial", '"x"', "trial_system_attributes"
        ),
        "a number that failed, of a list": _attribute(
            "failed_trial", "[1]", "trial_system_attributes"
        ),
        "a twin": _attribute("same_as", "[]"),
        "a confirmation of a list": _attribute("confirms", "[1]"),
        "a confirmation of text": _attribute("confirms", '"x"'),
        "a summary of text": _attribute("summary", '"x"'),
        "a summary of wrong types": _attribute("summary", '{"metrics": [1], "name": 3}'),
        "reports of a list": _attribute("reports", "[1, 2]"),
        "a seed of a list": _attribute("seed", '[["a"]]'),
        "a study of a list": _attribute(STUDY, "[1]", "study_user_attributes"),
        "a study of another schema": _attribute(
            "study", '{"schema": 999}', "study_user_attributes"
        ),
        "a study without a space": _attribute(
            STUDY, json.dumps({"schema": _schema()}), "study_user_attributes"
        ),
        "names of metrics that are numbers": _attribute(
            "study:metric_names", "[1]", "study_system_attributes"
        ),
        "an unhashable parameter": lambda db: db.execute(
            "UPDATE trial_params SET distribution_json = ?",
            ('{"name": "CategoricalDistribution", "attributes": {"choices": [[1], {"a": 2}]}}',),
        ),
        "a distribution that is none": lambda db: db.execute(
            "UPDATE trial_params SET distribution_json = '{}'"
        ),
        "a distribution of nobody": lambda db: db.execute(
            'UPDATE trial_params SET distribution_json = \'{"name": "X", "attributes": {}}\''
        ),
        "a value of text": lambda db: db.execute("UPDATE trial_values SET value = 'x'"),
        "no values": lambda db: db.execute("DELETE FROM trial_values"),
        "a state of nobody": lambda db: db.execute("UPDATE trials SET state = 'BORED'"),
        "no directions": lambda db: db.execute("DELETE FROM study_directions"),
        "a future schema": lambda db: db.execute("UPDATE version_info SET schema_version = 99"),
        "a future Optuna": lambda db: db.execute("UPDATE alembic_version SET version_num = 'v9'"),
        "no version": lambda db: db.execute("DROP TABLE version_info"),
        "no table of trials": lambda db: db.execute("DROP TABLE trials"),
        "tables of others": lambda db: db.executescript(
            "DROP TABLE trials; CREATE TABLE trials (a TEXT); INSERT INTO trials VALUES ('x')"
        ),
        "a view that never ends": lambda db: db.executescript(
            "DROP TABLE study_user_attributes; CREATE VIEW study_user_attributes AS WITH RECURSIVE "
            "c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS "
            "study_user_attribute_id, 1 AS study_id, 'a' AS key, '1' AS value_json FROM c"
        ),
    }
    for key in ("directory", "summary", "seed", "identity", "confirms"):
        value = random.choice(wrong_values())
        changes[f"{key}={value!r}"] = _attribute(key, json.dumps(value))
    for i, (name, how) in enumerate(changes.items()):
        path = folder / f"{i}.db"
        shutil.copy(base, path)
        with sqlite3.connect(path) as database:
            how(database)
        database.close()
        for reader in ("serve", "analyse"):
            yield f"{name}, {reader}", reader, f"sqlite:///{path}#vae"
    data = base.read_bytes()
    files = {"empty": b"", "text": b"hello", "cut": data[: len(data) // 2],
             "flipped": bytes(b ^ (random.random() < 0.01) for b in data)}  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.db").write_bytes(content)
        for reader in ("serve", "analyse"):
            yield f"{name}, {reader}", reader, f"sqlite:///{folder}/{name}.db#vae"
    for address in ("sqlite:///" + str(folder) + "#vae", "sqlite:////dev/zero#vae",
                    "sqlite:///\x1b]0;owned\x07#vae", f"sqlite:///{base}#\x1b[2J", "x://y#z",
                    "mysql://u:p@[::1#x", "sqlite:///:memory:#vae"):  # fmt: skip
        for reader in ("serve", "analyse"):
            yield f"{address.replace(str(folder), '')!r}, {reader}", reader, address


@kind
def journals(folder: Path, honest: Path, random: Random) -> Made:
    create: dict[str, Any] = {
        "op_code": 0,
        "worker_id": "w",
        "study_name": "vae",
        "directions": [2],
    }
    lines = {
        "empty": b"",
        "no JSON": b"{\n",
        "deep": b"[" * 100_000 + b"\n",
        "an operation of nobody": b'{"op_code": 99, "worker_id": "w"}\n',
        "no operation": b"{}\n",
        "a list": b"[1]\n",
        "a direction of nobody": json.dumps(create | {"directions": [99]}).encode() + b"\n",
        "a trial of nobody": json.dumps(create).encode() + b'\n{"op_code": 6, "worker_id": "w", '
        b'"trial_id": 5, "state": 1, "values": [1]}\n',
        "a study without trials": json.dumps(create).encode() + b"\n",
        "an endless line": b"0" * 10**7,
    }
    for i, (name, content) in enumerate(lines.items()):
        (folder / f"{i}.log").write_bytes(content)
        for reader in ("serve", "analyse"):
            yield f"{name}, {reader}", reader, f"journal://{folder}/{i}.log#vae"
