"""Addresses of storages are shown without their passwords, however they are written."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.storage.answers import redacted, scrubbed


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        (None, "the default SQLite file"),
        ("postgresql://u:hunter2@h:5/d", "postgresql://u:***@h:5/d"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql://:hunter2@h", "postgresql://:***@h"),
        ("postgresql://u:a/b:c@hunter2@h/d", "postgresql://***"),
        ("postgresql://u:a?hunter2@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u%3Ahunter2@h/d", "postgresql://***"),
        ("postgresql://u:hunter2", "postgresql://***"),
        ("postgresql:/u:hunter2@h/d", "***"),
        ("u:hunter2@h/d", "***"),
        ("mysql://u@h/d?charset=utf8&password=hunter2", "mysql://u@h/d?charset=utf8&password=***"),
        ("postgresql://h/d?pass%77ord=hunter2", "postgresql://h/d?password=***"),
        ("postgresql://h/d?sslmode=x;password=hunter2", "postgresql://h/d?sslmode=***"),
        ("postgresql://u@h/d?password=p@hunter2", "postgresql://***"),
        ("host=h password='hunter 2'", "host=h password=***"),
        ("sqlite:////home/a@b/d.db?mode=ro", "sqlite:////home/a@b/d.db?mode=ro"),
        ("postgresql://u:hunter2@[::1]:5432/d", "postgresql://u:***@[::1]:5432/d"),
        ("grpc://[::1]:13000", "grpc://[::1]:13000"),
        ("/data/sweep.log", "/data/sweep.log"),
        (
            {"url": "x://u:hunter2@h", "more": [{"password": "hunter2", "port": 1}]},
            "{url: x://u:***@h, more: [{password: ***, port: 1}]}",
        ),
    ],
    ids=str,
)
def test_an_address_is_shown_without_its_password(storage: Any, shown: str) -> None:
    assert redacted(storage) == shown


@pytest.mark.parametrize("said", ["hunter/2", "hunter%2F2", "(b'hunter/2')", "{'a': 'hunter/2'}"])
def test_a_librarys_message_loses_every_spelling_of_the_password(said: str) -> None:
    for storage in ("postgresql://u:hunter%2F2@h/d", {"connect": {"password": "hunter/2"}}):
        assert "hunter" not in scrubbed(f"no: {said}", storage)


def test_a_piece_of_a_malformed_password_is_hidden_too() -> None:
    said = "invalid literal for int() with base 10: 'hunter2'"
    assert "hunter2" not in scrubbed(said, "postgresql://u:a/b:hunter2@h/d")
