"""Whether a loss's win counts: the report's chapters on home advantage and on equal rates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis import figures
from analysis.report.comparing import home_chapter, rate_chapter
from analysis.runs import Runs
from tests import planted
from tests.planted import Planted
from tests.tables import HOSTILE

BEST_BUT_ON_SSIM = {"psnr": 20.0, "ssim": 0.6, "l1": 0.1}
KLS = {0.3: 60.0, 1.0: 40.0, 3.0: 20.0}
"""By `beta`, nats an image."""


def at_several_betas(*losses: str, gain: float = 0.0, seeds: int = 3) -> Runs:
    """Each loss on the curve of the one before, `gain` dB above it."""
    trials = [
        Planted(loss, seed, more={"beta": beta, "val/kl": kl + seed, "val/psnr": psnr})
        for place, loss in enumerate(losses)
        for beta, kl in KLS.items()
        for seed in range(seeds)
        for psnr in (15 + kl / 20 + place * gain + 0.001 * (3 * seed + place**2 * seed**2),)
    ]
    return planted.runs(trials, searched=("loss.name", "beta"))


def test_losses_on_one_curve_are_called_a_tie_and_drawn_with_their_bands() -> None:
    chapter, command = rate_chapter(at_several_betas("mse", "custom"), ("loss.name",))
    assert command is None
    assert chapter is not None
    assert "custom and mse are practically equal on PSNR" in chapter.sentences[0]
    assert chapter.table is not None
    assert [cell.text for cell in chapter.table.rows[0].cells][-1] == "equal"
    drawn = chapter.plots[0].figure
    names = [trace.name for trace in drawn.data if trace.mode == "markers"]
    assert names == ["mse", "custom"]
    assert sum(trace.fill == "toself" for trace in drawn.data) == 2


def test_a_loss_above_the_other_at_every_kl_is_better() -> None:
    chapter, _ = rate_chapter(at_several_betas("mse", "l1", gain=0.5), ("loss.name",))
    assert chapter is not None
    assert chapter.table is not None
    row = [cell.text for cell in chapter.table.rows[0].cells]
    assert row[:4] == ["PSNR", "mse", "l1", "22 to 60"]
    assert row[-1] == "worse"


def test_many_losses_are_told_apart_in_a_table_not_in_sentences() -> None:
    chapter, _ = rate_chapter(at_several_betas("mse", "l1", "ssim", "ms_ssim"), ("loss.name",))
    assert chapter is not None
    assert chapter.table is not None
    assert len(chapter.table.rows) == 6
    many = at_several_betas("mse", "l1", "ssim", "ms_ssim", "charbonnier")
    chapter, _ = rate_chapter(many, ("loss.name",))
    assert chapter is not None
    assert not any("practically equal" in sentence for sentence in chapter.sentences)


def test_at_one_beta_there_is_the_command_that_adds_others() -> None:
    chapter, command = rate_chapter(planted.runs([Planted("mse"), Planted("l1")]), ("loss.name",))
    assert chapter is None
    assert command is not None
    assert command.startswith("python run.py -m ")
    assert "beta=0.1,0.3,1,3,10" in command


def test_latent_sizes_are_not_compared_at_the_same_kl() -> None:
    assert rate_chapter(at_several_betas("mse"), ("latent_dim",)) == (None, None)


@pytest.mark.parametrize("seeds", [1, 3])
def test_curves_with_names_full_of_html_stay_text(seeds: int) -> None:
    runs = at_several_betas("mse", HOSTILE, seeds=seeds)
    chapter, _ = rate_chapter(runs, ("loss.name",))
    assert chapter is not None
    hovered = [text for trace in chapter.plots[0].figure.data for text in trace.hovertext or ()]
    assert hovered
    assert not any("<" in text for text in hovered)


def test_without_a_kl_the_figure_says_so() -> None:
    from analysis.rate_distortion import rate_distortion

    runs = at_several_betas("mse", "l1")
    runs.trials["val/kl"] = np.nan
    found = rate_distortion(runs)
    drawn = figures.rate_distortion(found.points, found.bands)
    assert "No completed trial has both PSNR and a KL." in drawn.layout.annotations[0].text


def test_a_win_on_its_own_loss_alone_is_starred() -> None:
    from analysis.comparison import compare

    trials = [Planted(loss, seed) for loss in ("mse", "ssim") for seed in range(2)]
    runs = planted.runs(trials)
    scores = planted.scores(trials)
    known: dict[str, dict[str, Any]] = {trial: {**v} for trial, v in scores.values.items()}
    for (trial, values), loss in zip(known.items(), runs.trials["loss.name"], strict=True):
        best = {"psnr": 18.0, "ssim": 0.8, "l1": 0.2} if loss == "ssim" else BEST_BUT_ON_SSIM
        known[trial] = {m: np.full(len(v), best[m]) for m, v in values.items()}
    scores = replace(scores, values=known)
    chapter = home_chapter(compare(runs, scores), scores)
    assert chapter is not None
    assert any("ssim wins only at home" in sentence for sentence in chapter.sentences)
    assert any("mse wins away from home" in sentence for sentence in chapter.sentences)
    texts = [text for row in chapter.plots[0].figure.data[0].text for text in row]
    assert sum("★" in text for text in texts) == 1


def test_without_scores_there_is_no_home_advantage() -> None:
    from analysis.comparison import compare

    runs = planted.runs([Planted("mse"), Planted("ssim")])
    assert home_chapter(compare(runs), None) is None
