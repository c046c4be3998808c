"""What the command that starts the service says when it cannot."""

from __future__ import annotations

import sys

import pytest

from serving import app


@pytest.mark.parametrize("package", ["uvicorn", "fastapi", "prometheus_client"])
def test_a_missing_package_is_told_with_its_remedy(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith("serving.") and n != "serving.app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets, for its own process
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", ["serving.app", "--checkpoint", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    assert "pip install 'vaesweep[serve]'" in capsys.readouterr().err
