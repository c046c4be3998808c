"""What a sweep says of how it compares is read from its study and its directory, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from analysis.load import load
from analysis.runs import Design, check_margin, parsed_design
from experiments.record.membership import DESIGN as FILE
from sweeps.storage.attributes import DESIGN as ATTRIBUTE
from tests.records import result, write_sweep
from tests.test_analysis_studies import add, make

CONTENT = {"schema": 1, "compare": ["loss"], "planned": 5, "margins": {"psnr": 0.2}}
READ = Design(("loss.name",), 5, {"psnr": 0.2})


def test_a_design_is_read_from_a_sweeps_directory(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [result(), result(seed=1)])
    assert load(sweep).designs == {}
    (sweep / FILE).write_text(json.dumps(CONTENT))
    assert load(sweep).designs == {"cats": READ}
    assert load(tmp_path).designs == {"cats": READ}


def test_a_design_is_read_from_a_study() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = make()
    study.set_user_attr(ATTRIBUTE, CONTENT)
    add(study, TrialState.COMPLETE)
    assert load(study).designs == {"cats": READ}


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', "\xff"])
def test_a_broken_design_is_named_and_the_trials_are_read(tmp_path: Path, text: str) -> None:
    sweep = write_sweep(tmp_path / "sweep", [result()])
    (sweep / FILE).write_bytes(text.encode("latin-1"))
    runs = load(sweep)
    assert runs.designs == {}
    assert [broken.where for broken in runs.broken] == [str(sweep / FILE)]
    assert len(runs.trials) == 1


def test_a_broken_design_of_a_study_is_named_and_the_trials_are_read() -> None:
    study = make()
    study.set_user_attr(ATTRIBUTE, CONTENT | {"compare": [1]})
    runs = load(study)
    assert runs.designs == {}
    assert "`compare` of a design must be a list of keys" in runs.broken[0].reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": 2}, {"compare": "loss"}, {"compare": [""]}, {"compare": [1]}, {"planned": 0},
        {"planned": 2.5}, {"planned": True}, {"planned": "5"}, {"margins": []},
        {"margins": {"psnr": -1}}, {"margins": {"psrn": 1}}, {"margins": {"psnr": "1"}},
        {"margins": {"psnr": float("nan")}}, {"margins": {"psnr": float("inf")}},
    ],
)  # fmt: skip
def test_what_is_no_design_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        parsed_design(CONTENT | wrong)


def test_what_is_not_said_is_unknown() -> None:
    assert parsed_design({"schema": 1, "compare": ["lr", "data"]}) == Design(("lr", "data.name"))


def test_a_margin_is_0_or_more() -> None:
    check_margin("psnr", 0)
    with pytest.raises(ValueError, match=r"0 or more and a metric out of psnr, .* but got psnr=-1"):
        check_margin("psnr", -1)


def test_a_sweep_that_compares_nothing_keeps_its_plan() -> None:
    assert parsed_design(CONTENT | {"compare": []}) == Design((), 5, {"psnr": 0.2})
