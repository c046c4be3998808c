"""What a report says and how it is written, in each format."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from analysis.comparison import groups_of
from analysis.diagnosis import Finding
from analysis.report import default_path, write
from analysis.report.content import Cell, Column, Row, Table
from analysis.report.gather import gather
from analysis.report.markdown import render
from analysis.report.pictures import side_by_side
from analysis.report.plots import search_plots
from analysis.report.tables import DASH, common_decimals, digits, folded, word
from analysis.report.trials import link_to, ranked, trial_table
from experiments.errors import UserError
from experiments.scoring.symptoms import SHORT
from tests import reports

ROOT = Path(__file__).parents[1]


def report(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis.report", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def texts(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[cell.text for cell in row.cells] for row in table.rows]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([19.48, 3.0], 2),
        ([0.483], 4),
        ([0.00012], 6),
        ([3156.2], 0),
        ([8.0, 16], 0),
        ([None, float("nan"), pd.NA], 0),
    ],
)
def test_a_column_shows_four_digits_of_its_largest_number(
    values: list[object], decimals: int
) -> None:
    assert common_decimals(values) == decimals


def test_values_are_written_as_people_write_them() -> None:
    assert [word(v).text for v in (0.001, 1e-3 + 1e-19, 64, True, None, pd.NA, "ssim")] == [
        "0.001", "0.001", "64", "True", DASH, DASH, "ssim",
    ]  # fmt: skip
    assert digits(-0.5, 2) == "\N{MINUS SIGN}0.50"


def test_trials_are_ranked_by_status_and_then_by_the_objective(tmp_path: Path) -> None:
    runs = reports.sweep(tmp_path, count=12, statuses=("failed", "completed", "pruned"))
    table = ranked(runs)
    assert list(table["status"]) == ["completed"] * 4 + ["pruned"] * 4 + ["failed"] * 4
    scores = table.loc[table["status"] == "completed", "val/psnr"]
    assert scores.is_monotonic_decreasing
    by_kl = ranked(replace(runs, objectives=("kl",)))
    assert by_kl.loc[by_kl["status"] == "completed", "val/kl"].is_monotonic_increasing


def test_the_table_has_what_was_searched_and_only_what_was_measured(tmp_path: Path) -> None:
    table = trial_table(reports.sweep(tmp_path, count=6), tmp_path)
    titles = [column.title for column in table.columns]
    assert titles == [
        "trial", "status", "loss.name", "latent_dim", "seed", "PSNR", "SSIM", "MS-SSIM", "KL",
        "epochs", "time", "W&B",
    ]  # fmt: skip
    assert {column.title for column in table.columns if not column.numeric} == {
        "trial", "status", "loss.name", "W&B",
    }  # fmt: skip


def test_links_are_relative_and_only_to_what_is_there(tmp_path: Path) -> None:
    record = tmp_path / "a b" / "c:1?#"
    record.mkdir(parents=True)
    assert link_to(str(record), tmp_path) == "./a%20b/c%3A1%3F%23/"
    assert link_to(str(tmp_path), tmp_path / "a b") == "./../"
    assert link_to(str(tmp_path / "gone"), tmp_path) == ""
    assert link_to(None, tmp_path) == ""


@pytest.mark.parametrize("address", ["javascript:alert(1)", "file:///etc", None, float("nan")])
def test_only_web_addresses_are_linked_as_runs(tmp_path: Path, address: object) -> None:
    runs = reports.sweep(tmp_path, count=2)
    runs.trials["wandb"] = pd.Series([address, "https://wandb.example/1"], dtype=object)
    rows = trial_table(runs, tmp_path).rows
    assert {row.trial: row.cells[-1].link for row in rows} == {
        "cats/0": "",
        "cats/1": "https://wandb.example/1",
    }


@pytest.mark.parametrize(
    ("varied", "groups"),
    [
        ({}, ("loss.name",)),
        ({"loss.scale": ["sum", "mean"] * 6}, ("loss.name", "loss.scale")),
        ({"loss.name": ["mse"] * 12}, ("latent_dim",)),
        ({"loss.name": ["mse"] * 12, "latent_dim": [8] * 12}, ("loss.name",)),
    ],
)
def test_what_is_compared_is_what_varies(
    tmp_path: Path, varied: dict[str, list[object]], groups: tuple[str, ...]
) -> None:
    runs = reports.sweep(tmp_path, count=12)
    assert groups_of(replace(runs, trials=runs.trials.assign(**varied))) == groups


@pytest.mark.slow
def test_the_verdict_names_the_planted_winner_and_marks_it(tmp_path: Path) -> None:
    content = gather(reports.sweep(tmp_path, count=36), [], tmp_path)
    assert content.verdict[0].startswith("use mse (latent 64): PSNR 21.2")
    assert content.estimates is not None
    marks = {row.cells[0].text: row.cells[2].mark for row in content.estimates.rows}
    assert marks == {"mse": "best", "l1": "worse", "ssim": "worse"}
    titles = [column.title for column in content.estimates.columns]
    assert titles[:4] == ["loss", "seeds", "PSNR", "SSIM"]
    assert "the test split is not scored" in content.notes[-1], "there are no checkpoints"
    assert [detail.id for detail in content.details] == ["chosen", "pairs"]
    pairs = texts(content.details[1].table)
    assert [row[1:3] for row in pairs] == [["mse", "l1"], ["mse", "ssim"], ["l1", "ssim"]]


@pytest.mark.slow
def test_every_number_of_a_rival_is_the_same_in_sentence_table_and_pairs(tmp_path: Path) -> None:
    content = gather(reports.sweep(tmp_path, count=36), [], tmp_path)
    assert content.estimates is not None
    said = re.search(r"by ([\d.]+) dB \(95% interval ([\d.]+ to [\d.]+)\)", content.verdict[0])
    assert said is not None
    behind = {row.cells[0].text: row.cells[2].note for row in content.estimates.rows}["l1"]
    assert behind == f"{said[1]} behind, {said[2]}"
    assert texts(content.details[1].table)[0][3:5] == [said[1], said[2]]


def test_a_margin_given_on_the_command_line_decides(tmp_path: Path) -> None:
    from tests.records import result, write_sweep

    results = [
        result(20 - 0.2 * (loss == "l1") + 0.01 * seed * (loss == "l1"), loss__name=loss, seed=seed)
        for loss in ("mse", "l1") for seed in range(5)
    ]  # fmt: skip
    sweep = write_sweep(tmp_path / "outputs/cats/sweep", results)
    done = report(str(sweep), "--format", "md", "--margin", "psnr=0.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "l1 is practically equal to mse: within 0.5 dB" in (sweep / "report.md").read_text()
    assert "--margin psnr=0.5" in (sweep / "report.md").read_text()
    refused = report(str(sweep), "--margin", "psnr=-1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "a margin must be METRIC=VALUE with a value of 0 or more" in refused.stderr


@pytest.mark.parametrize("statuses", [("failed",), ("running",), ("waiting", "pruned")])
def test_where_nothing_was_completed_the_report_says_so(
    tmp_path: Path, statuses: tuple[str, ...]
) -> None:
    content = gather(reports.sweep(tmp_path, count=4, statuses=statuses), [], tmp_path)
    assert content.verdict[0].startswith("no trial was completed")
    assert content.estimates is None
    assert len(content.trials.rows) == 4


@pytest.mark.parametrize("form", ["html", "md", "csv"])
def test_a_sweep_without_a_trial_has_a_report(tmp_path: Path, form: str) -> None:
    out = tmp_path / f"report.{form}"
    write(reports.empty(tmp_path / "sweep"), out, form=form)
    text = out.read_text()
    if form == "csv":
        assert len(text.splitlines()) == 1
    else:
        assert "there are no trials to compare" in text
        assert "result.json is cut off" in text
        assert len(text) < 100_000, "without figures there is no need for plotly"


def test_one_trial_has_a_report(tmp_path: Path) -> None:
    content = gather(reports.sweep(tmp_path, count=1), [], tmp_path)
    assert content.verdict[0].startswith("mse (latent ")


def test_markdown_cannot_be_broken_by_names(tmp_path: Path) -> None:
    name = "a|b *c* <i> [x](y) `d`"
    write(reports.sweep(tmp_path, losses=(name, "mse"), count=4), tmp_path / "r.md", form="md")
    text = (tmp_path / "r.md").read_text()
    assert r"a\|b \*c\* \<i\> \[x\](y) \`d\`" in text
    rows = [line for line in text.splitlines() if line.startswith("| cats/")]
    assert len(rows) == 4
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_a_command_in_markdown_can_be_copied(tmp_path: Path) -> None:
    content = gather(reports.sweep(tmp_path, losses=("mse", "a_b"), count=2), [], tmp_path)
    command = content.commands[0].text
    assert content.verdict[-1].endswith(command)
    assert "a_b" in command
    assert f"```bash\n{command}\n```" in render(content).partition("## Comparison")[0]


def test_csv_holds_every_trial_as_it_was_loaded(tmp_path: Path) -> None:
    runs = reports.sweep(tmp_path, count=6)
    write(runs, tmp_path / "r.csv", form="csv")
    again = pd.read_csv(tmp_path / "r.csv")
    expected = runs.trials.drop(columns=["reason", "checkpoint"])  # of which there is none
    pd.testing.assert_frame_equal(again[expected.columns], expected, check_dtype=False)


def test_a_report_that_fails_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    out.write_text("earlier")
    monkeypatch.setattr("analysis.report.html.render", lambda content: "\udc80")
    with pytest.raises(UnicodeEncodeError):
        write(reports.sweep(tmp_path / "s", count=1), out)
    assert out.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


@pytest.mark.parametrize(
    ("out", "message"),
    [("gone/report.html", "gone: No such file"), (".", "is a directory")],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, out: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(reports.empty(tmp_path / "s"), tmp_path / out)
    with pytest.raises(UserError, match="must be one of html, md, csv, but got 'pdf'"):
        write(reports.empty(tmp_path / "s"), tmp_path / "r", form="pdf")


def test_a_report_lies_beside_the_only_sweep_else_here(tmp_path: Path) -> None:
    assert default_path([str(tmp_path)], "md") == tmp_path / "report.md"
    assert default_path([str(tmp_path), str(tmp_path)], "html") == Path("report.html")
    assert default_path(["sqlite:///study.db#cats"], "html") == Path("report.html")


@pytest.mark.slow
def test_a_report_of_100_trials_stays_below_6_megabytes_and_shows_the_pictures(
    tmp_path: Path,
) -> None:
    from experiments.scoring.pictures import reconstruction_grid, save_png

    runs = reports.sweep(tmp_path, count=100, with_pictures=False)
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 3, 64, 64), dtype=np.uint8)
    for directory in runs.trials["directory"]:
        save_png(reconstruction_grid(*noise), Path(directory) / "reconstructions.png")
    write(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 6_000_000
    assert page.count('alt="image ') == (1 + 3) * 16


def test_what_does_not_fit_is_left_out_before_the_pictures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from analysis.report import html

    content = gather(reports.sweep(tmp_path, count=12), [], tmp_path)
    monkeypatch.setattr(html, "_MOST_BYTES", 1)
    monkeypatch.setattr(html, "_LEAST_OF_REST", 10_000)
    page = html.render(content)
    assert page.count('alt="image ') == (1 + 3) * 16
    assert "Left out, since the page would be too large: PSNR by parameter." in page
    assert "«PSNR by parameter» is left out" in caplog.text
    assert 'id="pictures">{}</script>' in page


def record(folder: Path, original: object, made: object) -> str:
    from experiments.scoring.pictures import reconstruction_grid, save_png

    folder.mkdir()
    save_png(reconstruction_grid(original, made), folder / "reconstructions.png")  # type: ignore[arg-type]
    return str(folder)


def pixels(uri: str) -> Any:
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def test_levels_stand_side_by_side_as_their_records_have_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, a, b, others = rng.integers(0, 256, (4, 5, 3, 32, 32), dtype=np.uint8)
    shown = side_by_side(
        [
            ("mse", "cats/0", record(tmp_path / "0", x, a)),
            ("l1", "cats/1", record(tmp_path / "1", x, b)),
            ("ssim", "cats/2", record(tmp_path / "2", others, b)),
            ("mix", "cats/3", None),
        ]
    )
    assert [(line.name, line.trial) for line in shown.lines] == [
        ("mse", "cats/0"),
        ("l1", "cats/1"),
    ]
    for rows, images in ((shown.originals, x), (shown.lines[0].images, a)):
        for uri, image in zip(rows, images, strict=True):
            np.testing.assert_array_equal(pixels(uri), image)
    psnr = peak_signal_noise_ratio(x[1], b[1], data_range=255)
    assert shown.lines[1].scores[1] == f"{psnr:.1f} dB"
    assert shown.missing == [
        "ssim: cats/2 was validated on other images",
        "mix: the record of cats/3 has no reconstructions",
    ]


@pytest.mark.parametrize(("most", "fewest"), [(1_500_000, 16), (100_000, 4), (1, 2)])
def test_pictures_become_smaller_and_fewer_but_stay(tmp_path: Path, most: int, fewest: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 16, 3, 128, 128), dtype=np.uint8)
    directory = record(tmp_path / "0", *noise)
    shown = side_by_side([(f"loss {i}", "cats/0", directory) for i in range(8)], most)
    total = sum(map(len, shown.originals)) + sum(len(u) for o in shown.lines for u in o.images)
    assert total <= most or most == 1
    assert len(shown.lines) == 8
    assert all(len(line.images) == len(line.scores) >= fewest for line in shown.lines)


def test_columns_with_one_value_or_along_with_another_are_folded() -> None:
    rng = np.random.default_rng(0)
    fit, psnr = rng.uniform(10, 60, 20), rng.uniform(15, 25, 20)
    columns = {
        "fit": fit, "total": fit + 2, "psnr": psnr, "mse": 10 ** (-psnr / 10), "beta": np.ones(20),
    }  # fmt: skip
    table = Table(
        "",
        [Column("trial"), Column("status"), *(Column(name, numeric=True) for name in columns)],
        [
            Row([Cell(str(i), str(i)), Cell("failed", "failed", "why")]
                + [Cell(f"{value:.3g}", float(value)) for value in values])
            for i, values in enumerate(zip(*columns.values(), strict=True))
        ],
    )  # fmt: skip
    assert {table.columns[i].title for i in folded(table)} == {"total", "beta"}
    few = Table("", table.columns, table.rows[:3])
    assert {few.columns[i].title for i in folded(few)} == {"beta"}
    assert folded(Table("", table.columns, table.rows[:1])) == frozenset()


def test_an_undertrained_model_is_named_as_such_beside_its_picture_and_in_its_row(
    tmp_path: Path,
) -> None:
    from analysis.report import html

    content = gather(reports.sweep(tmp_path, count=6), [], tmp_path)
    short = Finding(SHORT, "too short", (content.levels[0][1],), "", "")
    pages = [html.render(replace(content, findings=found)) for found in ([], [short])]
    assert [page.count('<small class="warn">undertrained</small>') for page in pages] == [0, 2]


def test_of_each_metric_there_are_figures_and_none_twice(tmp_path: Path) -> None:
    plots = search_plots(reports.sweep(tmp_path), ["loss.name"])
    assert [plot.title for plot in plots if plot.metric == "SSIM"] == ["SSIM by parameter"]
    assert plots[0].metric == "PSNR", "the objective comes first"
    assert {plot.title for plot in plots if not plot.metric} == {"What mattered"}
    assert len({plot.title for plot in plots}) == len(plots)


def test_a_broken_picture_is_left_out(tmp_path: Path) -> None:
    from analysis.report.pictures import thumbnails

    for name, content in (("cut", b"\x89PNG\r\n\x1a\n"), ("text", b"hello"), ("gone", None)):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "reconstructions.png").write_bytes(content)
    trials = [(name, str(tmp_path / name)) for name in ("cut", "text", "gone")]
    assert thumbnails([*trials, ("elsewhere", None)]) == {}


def test_a_link_to_a_readers_own_picture_is_not_followed(tmp_path: Path) -> None:
    from PIL import Image

    from analysis.report.pictures import thumbnails

    own = tmp_path / "own.png"
    Image.new("RGB", (300, 300)).save(own)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "reconstructions.png").symlink_to(own)
    assert thumbnails([("0", str(tmp_path / "0"))]) == {}
    own.rename(tmp_path / "0" / "reconstructions.png")
    assert list(thumbnails([("0", str(tmp_path / "0"))])) == ["0"]


@pytest.mark.slow
def test_the_command_reports_a_real_sweep(tiny_sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    done = report(str(tiny_sweep), "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert re.search(r"scoring \d trials on the test split", done.stderr)
    page = out.read_text()
    assert "on the test images, which chose nothing, " in page
    assert page.count('alt="image ') >= 3 * 16
    assert "Every model under every loss" in page
    assert "To compare the losses at the same KL:" in page
    assert f"python -m experiments.rerun {tiny_sweep}" in page
    assert f"python {ROOT / 'run.py'} -m name=tiny" in page  # as it is read elsewhere
    pictures = re.search(r'id="pictures">(.*?)</script>', page)
    assert pictures is not None
    assert set(json.loads(pictures[1])) >= {f"tiny/{number}" for number in range(4)}


@pytest.mark.slow
def test_a_study_is_reported_without_its_records(tiny_sweep: Path, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with (
        closing(sqlite3.connect(tiny_sweep / "study.db")) as study,
        closing(sqlite3.connect(tmp_path / "study.db")) as copy,
    ):
        study.backup(copy)
    done = report(f"sqlite:///{tmp_path}/study.db", "--format", "md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.md").read_text()
    assert "6 trials: 4 completed, 1 pruned, 1 failed" in text


def test_the_command_refuses_what_does_not_exist(tmp_path: Path) -> None:
    done = report("nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: a source must be a directory" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_exits_with_1_where_there_is_no_answer(tmp_path: Path) -> None:
    from tests.records import result, write_sweep

    sweep = write_sweep(tmp_path / "outputs/cats/sweep", [result(status="failed")])
    done = report(str(sweep), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout == f"{sweep / 'report.html'}\n"
    assert "no trial was completed" in (sweep / "report.html").read_text()


def test_figures_as_files_are_those_of_the_first_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.report import markdown

    monkeypatch.setattr(markdown, "_draw", lambda plots: None)
    content = gather(reports.sweep(tmp_path), [], tmp_path)
    titles = set(markdown.save_figures(content, tmp_path / "figures"))
    assert {"PSNR: every pair", "PSNR by parameter", "What mattered"} <= titles
    assert not any("SSIM" in title for title in titles)
