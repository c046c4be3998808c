"""The coverage of the suite survives the processes that its tests kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

from tests.coverage_files import discard_broken


def measured(path: Path, *, lines: int) -> Path:
    """A process's data file."""
    data = CoverageData(str(path))
    data.add_lines({f"module_{i}.py": set(range(1, lines)) for i in range(200)})
    data.close()
    return path


def test_what_a_killed_process_left_does_not_spoil_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    measured(tmp_path / ".coverage.whole", lines=50)
    garbled = measured(tmp_path / ".coverage.garbled", lines=400)
    content = garbled.read_bytes()
    garbled.write_bytes(content[:8192] + b"\xa5" * (len(content) - 8192))
    (tmp_path / ".coverage.begun").write_bytes(content[:100])
    discard_broken(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".coverage.whole"]
    whole = Coverage(data_file=".coverage", config_file=False)
    whole.combine([str(tmp_path)], strict=True)
    assert len(whole.get_data().measured_files()) == 200
