"""What a person sees of a sweep is true, whole and survives a database that is away."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from rich.console import Console

from sweeps.screen import formatting
from sweeps.screen.progress import Progress
from sweeps.screen.summary import print_paths, print_summary
from sweeps.screen.view import View
from sweeps.space.grammar import parse
from sweeps.space.grid import Grid
from sweeps.space.points import point_name

LOSSES = CategoricalDistribution(["mse", "l1", "ssim", "mix[mse,ssim]"])
RATES = FloatDistribution(1e-5, 1.0, log=True)
PSNR = ["psnr"]
BOTH = ["psnr", "ms_ssim"]
Values = list[float] | None


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(study_name="cats [32x32]", direction="maximize")


@pytest.fixture
def several() -> optuna.Study:
    return optuna.create_study(study_name="cats", directions=[StudyDirection.MAXIMIZE] * 2)


class Screen:
    """A console whose text can be read."""

    def __init__(self, terminal: bool, width: int = 120, height: int = 30) -> None:
        self._file = io.StringIO()
        self.console = Console(
            file=self._file,
            force_terminal=terminal,
            width=width,
            height=height,
            color_system=None,
            legacy_windows=False,
        )

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._file.getvalue())

    def lines(self) -> list[str]:
        return self.text().splitlines()


@pytest.fixture
def log_file() -> Screen:
    return Screen(terminal=False)


@pytest.fixture
def terminal() -> Screen:
    return Screen(terminal=True)


def add(
    study: optuna.Study,
    loss: str,
    lr: float = 1e-3,
    values: Values = None,
    state: TrialState = TrialState.COMPLETE,
    seconds: float = 60.0,
    curve: dict[int, float] | None = None,
    **attrs: Any,
) -> None:
    trial = create_trial(
        state=state,
        values=values,
        params={"loss": loss, "lr": lr},
        distributions={"loss": LOSSES, "lr": RATES},
        intermediate_values=curve or {},
        user_attrs=attrs,
    )
    trial.datetime_start = datetime.now() - timedelta(seconds=seconds)
    if state.is_finished():
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=seconds)
    study.add_trial(trial)


def test_a_log_file_gets_one_line_for_each_trial_that_ends(
    study: optuna.Study, log_file: Screen
) -> None:
    with View(lambda: study, PSNR, 20, None, log_file.console) as view:
        add(study, "mse", 1e-3, [19.5])
        view.refresh()
        add(study, "ssim", 1e-3, [19.4])
        add(study, "l1", state=TrialState.PRUNED, curve={1: 3.0, 2: 12.25})
        view.refresh()
        view.refresh()
        reason = "RuntimeError: CUDA out of memory [GPU 0]\nTraceback ..."
        add(study, "l1", state=TrialState.FAIL, reason=reason)
    assert log_file.lines() == [
        "trial 0 done: psnr 19.5 (loss=mse lr=0.001), best psnr 19.5; 1 of 20 done, "
        "about 19 min left",
        "trial 1 done: psnr 19.4 (loss=ssim lr=0.001), best psnr 19.5; 2 of 20 done, "
        "about 17 min left",
        "trial 2 pruned at epoch 2: psnr 12.25 (loss=l1 lr=0.001), best psnr 19.5; 3 of 20 done, "
        "about 17 min left",
        "trial 3 failed: RuntimeError: CUDA out of memory [GPU 0] (loss=l1 lr=0.001), "
        "best psnr 19.5; 4 of 20 done, about 16 min left",
    ]


def test_several_objectives_tell_the_size_of_the_front(
    several: optuna.Study, log_file: Screen
) -> None:
    with View(lambda: several, BOTH, None, None, log_file.console):
        add(several, "mse", values=[19.5, 0.8])
        add(several, "mix[mse,ssim]", values=[19.0, 0.9])
        add(several, "l1", state=TrialState.PRUNED, reports={"4": [3.0, None]})
    assert log_file.lines() == [
        "trial 0 done: psnr 19.5, ms_ssim 0.8 (loss=mse lr=0.001), front of 2; 1 done",
        "trial 1 done: psnr 19, ms_ssim 0.9 (loss=mix[mse,ssim] lr=0.001), front of 2; 2 done",
        "trial 2 pruned at epoch 4: psnr 3, ms_ssim - (loss=l1 lr=0.001), front of 2; 3 done",
    ]


def test_trials_of_an_earlier_run_are_counted_but_not_told_again(
    study: optuna.Study, log_file: Screen
) -> None:
    add(study, "mse", values=[19.5])
    add(study, "l1", state=TrialState.FAIL, retried=True)
    with View(lambda: study, PSNR, 3, None, log_file.console):
        add(study, "l1", values=[18.0], retries=1)
    (only,) = log_file.lines()
    assert only.startswith("trial 2 done: psnr 18 (loss=l1 lr=0.001), best psnr 19.5; 2 of 3 done")


def test_repeated_and_withdrawn_trials_are_not_told(study: optuna.Study, log_file: Screen) -> None:
    with View(lambda: study, PSNR, 3, None, log_file.console):
        add(study, "l1", state=TrialState.FAIL, retried=True)
    assert log_file.text() == ""


def test_a_copy_says_of_what(study: optuna.Study, log_file: Screen) -> None:
    with View(lambda: study, PSNR, None, None, log_file.console):
        add(study, "mse", values=[19.5], same_as=7)
    assert log_file.lines()[0].startswith("trial 0 done: psnr 19.5, as trial 7 (loss=mse")


def test_confirmations_tell_their_seed_and_are_beyond_the_budget(
    study: optuna.Study, log_file: Screen
) -> None:
    add(study, "mse", values=[20.0])
    with View(lambda: study, PSNR, 1, None, log_file.console):
        add(study, "mse", values=[18.0], seed=7, phase="confirm", confirms=0)
    assert log_file.lines() == [
        "trial 1 done: psnr 18 (loss=mse lr=0.001 seed=7), best psnr 18; 1 of 1 done, "
        "1 confirmation"
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_points_of_a_grid_are_counted_once_each_also_those_of_an_earlier_grid(
    study: optuna.Study, terminal: bool
) -> None:
    a, b, c, d, e = (point_name({"loss": loss}, None) for loss in "abcde")
    for cell in (a, b, c):
        add(study, "mse", values=[20.0], cell=cell)
    add(study, "l1", state=TrialState.FAIL, cell=d)
    add(study, "l1", state=TrialState.FAIL, cell=d, retried=True)
    screen = Screen(terminal=terminal)
    with View(lambda: study, PSNR, 2, None, screen.console, grid=Grid(parse(["loss=d,e"]))):
        add(study, "l1", values=[18.0], cell=d)
        add(study, "mse", values=[20.0], cell=e, same_as=0)
    if terminal:
        assert "5 of 5 trials: 5 done, 0 pruned, 0 failed, 0 running, 0 waiting" in screen.text()
    else:
        assert [line.rpartition("; ")[2] for line in screen.lines()] == [
            "4 of 5 done",
            "5 of 5 done",
        ]


def test_a_smaller_budget_than_before_is_not_exceeded(
    study: optuna.Study, log_file: Screen
) -> None:
    for _ in range(4):
        add(study, "mse", values=[20.0])
    with View(lambda: study, PSNR, 3, None, log_file.console):
        add(study, "l1", values=[18.0])
    assert log_file.lines()[0].endswith("5 of 5 done")


def test_the_deadline_is_told_if_it_comes_first(
    study: optuna.Study, log_file: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.screen.view.time", SimpleNamespace(time=lambda: 1000.0))
    with View(lambda: study, PSNR, 1000, 1000.0 + 3661, log_file.console):
        add(study, "mse", values=[20.0])
    assert log_file.lines()[0].endswith("; 1 of 1000 done, 1 h 1 min to the deadline")


def away(**_: object) -> optuna.Study:
    raise optuna.exceptions.StorageInternalError("the database is away")


def test_a_database_that_is_away_loses_no_line(
    study: optuna.Study, log_file: Screen, caplog: pytest.LogCaptureFixture
) -> None:
    provider: list[Callable[[], optuna.Study]] = [lambda: study]
    with (
        caplog.at_level(logging.WARNING, "sweeps.screen.view"),
        View(lambda: provider[0](), PSNR, None, None, log_file.console) as view,
    ):
        whole, study.get_trials = study.get_trials, away  # type: ignore[method-assign, assignment]
        provider[0] = away
        add(study, "mse", values=[20.0])
        for _ in range(3):
            view.refresh()
        assert log_file.text() == ""
        study.get_trials = whole  # type: ignore[method-assign]
        provider[0] = lambda: study
    assert len(log_file.lines()) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the study cannot be read, so its progress is not shown: the database is away"
    ]


def test_a_terminal_shows_the_last_state_and_why_it_is_old(
    study: optuna.Study, terminal: Screen
) -> None:
    add(study, "mse", values=[20.0])
    with View(lambda: study, PSNR, 5, None, terminal.console) as view:
        study.get_trials = away  # type: ignore[method-assign, assignment]
        view.refresh()
        picture = terminal.text()[-2000:]
    assert "as of 0 s ago, since StorageInternalError: the database is away" in picture
    assert "1 of 5 trials: 1 done" in picture


def test_a_view_ends_when_the_sweep_breaks(study: optuna.Study, terminal: Screen) -> None:
    view = View(lambda: study, PSNR, 5, None, terminal.console)
    with pytest.raises(KeyboardInterrupt), view:
        raise KeyboardInterrupt
    assert not view._thread.is_alive()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error")])
def test_a_terminal_that_is_gone_does_not_end_the_sweep(
    study: optuna.Study, error: OSError, terminal: bool
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    class Exiting(Console):
        def on_broken_pipe(self) -> None:  # Rich's own also closes the process's output
            raise SystemExit(1)

    with View(lambda: study, PSNR, 5, None, Exiting(file=Gone(), force_terminal=terminal)):
        add(study, "mse", values=[20.0])


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_counts_running_trials_and_the_best(
    study: optuna.Study, width: int
) -> None:
    add(study, "mix[mse,ssim]", values=[20.0], seed=0)
    add(study, "mix[mse,ssim]", values=[21.0], seed=1)
    add(study, "mse", state=TrialState.PRUNED)
    add(study, "l1", state=TrialState.FAIL)
    add(study, "ssim", 0.25, state=TrialState.RUNNING, curve={1: 3.0, 3: 18.25}, epochs=10)
    study.enqueue_trial({"loss": "l1"})
    screen = Screen(terminal=True, width=width)
    with View(lambda: study, PSNR, 9, None, screen.console):
        pass
    lines = [line.rstrip() for line in screen.lines()]
    assert any(line.startswith("cats [32x32]  0:00:0") and "left" in line for line in lines)
    assert "4 of 9 trials: 2 done, 1 pruned, 1 failed, 1 running, 4 waiting" in lines
    assert "trial 4   3/10  18.25  loss=ssim lr=0.25" in lines
    assert "trial 0          2  20.5 ± 0.71  loss=mix[mse,ssim] lr=0.001" in lines
    assert max(map(len, lines)) <= width


def test_a_front_is_shown_and_confirmations_are_counted(
    several: optuna.Study, terminal: Screen
) -> None:
    for i in range(7):
        add(several, "mse", 0.1 + i / 10, values=[float(i), float(-i)])
    add(several, "mse", 0.1, state=TrialState.RUNNING, phase="confirm", confirms=0, seed=5)
    with View(lambda: several, BOTH, 7, None, terminal.console):
        pass
    assert "front of 7" in terminal.text()
    assert "0 of 1 confirmations" in terminal.text()
    assert "loss=mse lr=0.1 seed=5" in terminal.text()
    assert terminal.text().count("lr=0.3") + terminal.text().count("lr=0.4") > 0


def test_more_running_trials_than_lines_are_counted(study: optuna.Study) -> None:
    for _ in range(40):
        add(study, "mse", state=TrialState.RUNNING)
    screen = Screen(terminal=True, height=20)
    with View(lambda: study, PSNR, None, None, screen.console):
        pass
    assert "trial 11 " in screen.text()
    assert "trial 12 " not in screen.text()
    assert "and 28 more" in screen.text()


def test_a_study_that_does_not_exist_yet_is_waited_for(terminal: Screen) -> None:
    with View(away, PSNR, 5, None, terminal.console):
        pass
    assert "the database is away" in terminal.text()


def test_time_left_is_what_trials_took_shared_among_workers(study: optuna.Study) -> None:
    progress = Progress(PSNR, budget=10)
    assert progress.read(study).seconds_left is None
    for _ in range(4):
        add(study, "mse", values=[1.0], seconds=100)
    add(study, "mse", state=TrialState.FAIL, seconds=1)
    for _ in range(2):
        add(study, "mse", state=TrialState.RUNNING, curve={5: 1.0}, epochs=10)
    # Three to begin and two halves, by two workers.
    assert progress.read(study).seconds_left == pytest.approx(100 * 4 / 2)


def test_before_any_trial_ended_the_running_ones_tell_the_time(study: optuna.Study) -> None:
    day = 24 * 3600  # beside which what the test takes is nothing
    add(study, "mse", state=TrialState.RUNNING, seconds=day, curve={2: 1.0}, epochs=10)
    left = Progress(PSNR, budget=2).read(study).seconds_left
    assert left == pytest.approx(5 * day * 1.8, rel=0.05)


def test_a_read_that_finds_nothing_new_copies_no_trial_and_looks_for_no_best(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(study, "mse", values=[19.5])
    progress = Progress(PSNR, None)
    before = progress.read(study).front
    monkeypatch.setattr("sweeps.screen.progress.front", None)
    monkeypatch.setattr("copy.deepcopy", None)
    again = progress.read(study)
    assert (again.ended, again.front) == ([], before)


def summary_of(
    study: optuna.Study, names: list[str], width: int = 120, terminal: bool = False
) -> str:
    screen = Screen(terminal=terminal, width=width)
    paths: dict[str, Path | str] = {
        "sweep": Path.cwd() / "outputs" / "vae",
        "study": "sqlite:///[a].db",
    }
    print_summary(study, names, screen.console)
    print_paths(paths, screen.console)
    return screen.text()


def test_the_summary_ranks_configurations_over_their_seeds(study: optuna.Study) -> None:
    result = {"epochs": 12, "timings": {"total_seconds": 61.7}}
    add(study, "mix[mse,ssim]", values=[20.0], seed=0, summary=result)
    add(study, "mix[mse,ssim]", values=[21.0], seed=1, summary=result)
    add(study, "mse", values=[20.75], seed=0, summary=result)
    add(study, "mse", state=TrialState.PRUNED, seed=1)
    text = summary_of(study, PSNR)
    assert "cats [32x32]: 2 configurations" in text
    rows = [line.split() for line in text.splitlines() if "loss=" in line]
    assert rows == [
        ["1", "2", "20.75", "1", "12", "62", "loss=mse", "lr=0.001"],
        ["2", "0", "20.5", "±", "0.71", "2", "12", "62", "loss=mix[mse,ssim]", "lr=0.001"],
    ]
    assert "psnr in dB, higher is better; mean ± standard deviation over seeds" in text
    assert "without 1 of their trials that were pruned or failed" in text
    assert "4 trials: 3 done, 1 pruned" in text
    assert "sweep  outputs/vae\nstudy  sqlite:///[a].db\n" in text


def test_the_summary_shows_the_best_ten(study: optuna.Study) -> None:
    for i in range(12):
        add(study, "mse", 0.01 * (i + 1), values=[float(i)])
    text = summary_of(study, PSNR)
    assert "12 configurations, the best 10" in text
    assert text.count("loss=mse") == 10


def test_a_search_over_losses_by_one_metric_is_told_whose_home_ground_that_is(
    study: optuna.Study, several: optuna.Study
) -> None:
    note = "psnr is the home ground of mse: compare by several metrics, objective=[psnr,ms_ssim]"
    add(study, "mse", values=[20.0])
    assert note not in summary_of(study, PSNR), "one loss only"
    add(study, "l1", values=[20.0])
    assert note in summary_of(study, PSNR)
    assert "l1 is the home ground of l1" in summary_of(study, ["l1"])
    assert "home ground" not in summary_of(study, ["kl"])
    add(several, "mse", values=[20.0, 1.0])
    add(several, "l1", values=[21.0, 1.0])
    assert "home ground" not in summary_of(several, BOTH)


def test_importances_are_printed_for_each_objective(several: optuna.Study) -> None:
    for i in range(12):
        loss = ["mse", "l1", "ssim"][i % 3]
        add(several, loss, 0.05 * (i + 1), values=[float(i), float(i % 3)])
    text = summary_of(several, BOTH)
    assert "importance for psnr: lr 0." in text
    assert "importance for ms_ssim: loss 0." in text


def test_if_all_failed_the_summary_says_why(study: optuna.Study) -> None:
    add(study, "mse", state=TrialState.FAIL, reason="ValueError: no [cats]\nin the folder")
    add(study, "l1", state=TrialState.FAIL, reason="another")
    text = summary_of(study, PSNR)
    assert "cats [32x32]: 2 trials: 2 failed" in text
    assert (
        "no trial was completed; the first that failed, trial 0: "
        "ValueError: no [cats]\nin the folder\n" in text
    )


def test_a_summary_of_nothing(study: optuna.Study) -> None:
    assert summary_of(study, PSNR).startswith("cats [32x32]: no trial has begun\nsweep")


def test_paths_are_never_broken() -> None:
    screen = Screen(terminal=True, width=40)
    url = "postgresql://somebody@a-long-host-name.example/with-a-long-name"
    print_paths({"study": url}, screen.console)
    assert f"study  {url}\n" in screen.text()


def test_the_summary_can_be_printed_in_ascii(study: optuna.Study) -> None:
    add(study, "mse", values=[20.0], seed=0)
    add(study, "mse", values=[21.0], seed=1)
    bytes_ = io.BytesIO()
    file = io.TextIOWrapper(bytes_, encoding="ascii")
    print_summary(study, PSNR, Console(file=file, width=120))
    file.flush()
    assert b"20.5 +- 0.71" in bytes_.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min"),
        (3590, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86399, "1 d 0 h"),
        (4 * 86400 + 3 * 3600, "4 d 3 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_parameters_read_as_they_are_typed() -> None:
    params = {"loss": "mix[a,b]", "lr": 0.000317238, "ema": None, "amp": True, "z": 32}
    assert formatting.parameters(params) == "loss=mix[a,b] lr=0.0003172 ema=null amp=true z=32"


def test_a_database_can_be_read_by_the_views_own_thread(tmp_path: Path, log_file: Screen) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    written = optuna.create_study(study_name="cats", storage=url, direction="maximize")

    def provider() -> optuna.Study:
        return optuna.load_study(study_name="cats", storage=url)

    view = View(provider, PSNR, 2, None, log_file.console)
    with view:
        add(written, "mse", values=[20.0])
    assert view._trouble is None
    assert log_file.lines()[0].startswith("trial 0 done: psnr 20 (loss=mse lr=0.001)")


@pytest.mark.parametrize(("terminal", "width"), [(True, 80), (True, 120), (False, 80)])
def test_parameters_beside_several_objectives_stay_words(
    several: optuna.Study, terminal: bool, width: int
) -> None:
    params = {"loss": "kornia_charbonnier", "loss.scale": "optimal_sigma"}
    distributions: dict[str, BaseDistribution] = {
        key: CategoricalDistribution([value]) for key, value in params.items()
    }
    for seed in range(3):
        values = [17.0 + seed / 9, 0.58 + seed / 99]
        several.add_trial(
            create_trial(
                values=values, params=params, distributions=distributions, user_attrs={"seed": seed}
            )
        )
    lines = summary_of(several, BOTH, width=width, terminal=terminal).splitlines()
    for word in ("loss=kornia_charbonnier", "loss.scale=optimal_sigma"):
        assert any(word in line for line in lines)
    if terminal:
        assert max(map(len, lines)) <= width
    else:
        assert any("charbonnier loss.scale=optimal_sigma" in line for line in lines)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["data.count=120", "loss=mse", "seed=3"], "seed=3"),
        (["data.count=120", "loss=mse"], "data.count=120 loss=mse"),
    ],
)
def test_a_trial_that_only_its_seed_tells_from_others_is_named_by_it(
    overrides: list[str], told: str
) -> None:
    trial = create_trial(state=TrialState.RUNNING, user_attrs={"overrides": overrides})
    assert formatting.parameters_of(trial) == told
