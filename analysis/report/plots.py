"""The figures of a report, each with what one reads from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analysis import labels
from analysis.report.content import Plot
from analysis.runs import Runs

if TYPE_CHECKING:
    import plotly.graph_objects as go

log = logging.getLogger(__name__)

_MOST_CHARACTERS = 1_500_000
"""Of one figure in the page."""
_MOST_IN_LEGEND = 16
_PAIR = ("psnr", "ms_ssim")


def search_plots(runs: Runs, by: Sequence[str]) -> list[Plot]:
    """What the search saw: every trial, on the validation split.

    Args:
        runs: of the report.
        by: columns that make the groups which are compared.
    """
    from analysis import figures as f

    metric = runs.objectives[0] if runs.objectives else "psnr"
    pair = runs.objectives if len(runs.objectives) == 2 else _PAIR
    name = labels.title(metric)
    made = [
        plot(
            f"{name} of every trial",
            "The mark is the median, the line the middle half of the trials.",
            f.metric_by_loss, runs, metric, by=by,
        ),
        plot(
            f"{name} by parameter",
            "Are the best values at the edge of a range? Then search beyond it.",
            f.slices, runs, metric, by=by,
        ),
        plot(
            "What mattered",
            "A parameter near 0 could stay as it is, within the range that was searched.",
            f.importance, runs,
        ),
        plot(
            "Learning curves",
            "The median of each group and its middle half. Still rising at the end? Train longer.",
            f.learning_curves, runs, metric, by=by,
        ),
        plot(
            f"{labels.title(pair[0])} against {labels.title(pair[1])}",
            "On the line nothing improves one without giving up some of the other.",
            f.pareto_front, runs, pair, by=by,
        ),
        plot(
            "Where trials were pruned",
            "Lines that cross after a trial was stopped mean that it was stopped too early.",
            f.pruning, runs, metric,
        ) if (runs.trials["status"] == "pruned").any() else None,
        plot(
            "All parameters at once",
            "Drag along an axis to see only the trials that pass there.",
            f.parallel_coordinates, runs, metric, wide=True,
        ),
    ]  # fmt: skip
    return [drawn for drawn in made if drawn is not None]


def plot(
    title: str,
    caption: str,
    function: Callable[..., go.Figure],
    *arguments: object,
    wide: bool = False,
    **options: object,
) -> Plot | None:
    """What a function of `analysis.figures` draws, or None if it has nothing to show.

    A figure that fails is left out, and the log says so: the rest of the report is worth having.
    """
    try:
        figure = function(*arguments, **options)
        size = len(figure.to_json(validate=False))
    except Exception as error:  # noqa: BLE001
        log.warning("the figure «%s» is left out: %s: %s", title, type(error).__name__, error)
        return None
    if size > _MOST_CHARACTERS:
        log.warning("the figure «%s» is left out: it takes %.1f MB", title, size / 1e6)
        return None
    if (
        sum(getattr(trace, "showlegend", False) is not False for trace in figure.data)
        > _MOST_IN_LEGEND
    ):
        figure.update_layout(showlegend=False)  # it would leave no room; hovering tells the names
    is_blank = not figure.data and not figure.layout.images
    return None if is_blank else Plot(title, caption, figure, wide)
