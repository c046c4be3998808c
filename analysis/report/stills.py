"""The figures of a report as files, for a text that cannot draw them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from analysis.report.content import Content, Plot
from experiments import commands
from experiments.errors import UserError

_WIDTH, _WIDE = 760, 1100  # pixels


def save(content: Content, folder: Path) -> dict[str, Path]:
    """Write each figure as an SVG that can be read on light and on dark pages.

    Those that consist of pictures of the data or of models are left out; of each part of the
    report those of its first metric are drawn.

    Args:
        content: of the report.
        folder: for the files, made if need be.

    Returns:
        The file of each plot by its title.

    Raises:
        UserError: kaleido is not installed, or finds no browser that draws.
    """
    parts = [("comparison", content.effects), *((one.id, one.plots) for one in content.chapters)]
    plots = {
        folder / f"{name}-{_slug(plot.title)}.svg": plot
        for name, part in parts
        for plot in part
        if not plot.figure.layout.images and plot.metric in ("", _first_metric(part))
    }
    folder.mkdir(parents=True, exist_ok=True)
    if plots:
        _draw(plots)
    return {plot.title: path for path, plot in plots.items()}


def _first_metric(plots: Sequence[Plot]) -> str:
    return next((plot.metric for plot in plots if plot.metric), "")


def _draw(plots: dict[Path, Plot]) -> None:
    import plotly.io

    widths = [_WIDE if plot.wide else _WIDTH for plot in plots.values()]
    figures = [plot.figure for plot in plots.values()]
    try:
        plotly.io.write_images(figures, list(plots), width=widths, validate=False)
    except Exception as error:  # of kaleido and of the browser that it starts
        raise UserError(
            "figures are drawn by kaleido and Chrome or Chromium "
            f"({commands.install('notebooks')}; BROWSER_PATH names the browser), but that failed: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        ) from error


def _slug(title: str) -> str:
    """«what-mattered» of «What mattered»."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
