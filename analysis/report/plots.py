"""The figures of a report, each with what one reads from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from analysis import labels
from analysis.report.content import Plot
from analysis.runs import Runs

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from decisions import Decision, Pair
    from decisions.answer import Measure

log = logging.getLogger(__name__)

_MOST_IN_LEGEND = 16
_METRICS = ("psnr", "ssim", "ms_ssim", "l1", "elbo", "laplacian_swd", "kl")
"""That a reader may choose, beside the objectives; the squared error and the bits per dimension
say what PSNR and ELBO say."""


def decision_plots(
    decision: Decision,
    pairs: Mapping[tuple[int, int], Pair],
    names: Sequence[str],
    measure: Measure,
    *,
    is_secondary: bool = False,
) -> list[Plot]:
    """What was found on one metric: the leader and its rivals, and every pair.

    Args:
        decision: of some levels.
        pairs: of the same, as `decisions.all_pairs` has them.
        names: of the levels.
        measure: what they were compared by.
        is_secondary: whether that is none of the questions that were asked.
    """
    from analysis import figures as f

    metric = f"{measure.title} (secondary)" if is_secondary else measure.title

    leader = names[decision.leader]
    made = [
        plot(
            f"{measure.title}: how far each is behind {leader}",
            "Thin: the interval that must be clear of zero for «worse». Thick: the 90% interval "
            "that must lie in the shaded margin for «practically equal».",
            *(f.effects, decision, names, measure),
            metric=metric,
            wide=True,
        ),
        plot(
            f"{measure.title}: every pair",
            "How much better the row is than the column. Blue and brown: told apart. "
            "≈ practically equal, ? open.",
            *(f.pairs, pairs, names, measure),
            metric=metric,
            wide=True,
        ) if len(decision.rivals) > 1 else None,
    ]  # fmt: skip
    return [drawn for drawn in made if drawn is not None]


def search_plots(runs: Runs, by: Sequence[str]) -> list[Plot]:
    """What the search saw: every trial, on the validation split.

    Args:
        runs: of the report.
        by: columns that make the groups which are compared.
    """
    from analysis import figures as f

    made = [drawn for metric in _metrics(runs) for drawn in _of_metric(runs, by, metric)]
    made.append(
        plot(
            "What mattered",
            "A parameter near 0 could stay as it is, within the range that was searched.",
            *(f.importance, runs),
        )
    )
    if len(runs.objectives) == 2:
        first, second = runs.objectives
        made.append(
            plot(
                f"{labels.title(first)} against {labels.title(second)}",
                "On the line nothing improves one without giving up some of the other.",
                *(f.pareto_front, runs, (first, second)),
                by=by,
            )
        )
    if (runs.trials["status"] == "pruned").any():
        made.append(
            plot(
                "Where trials were pruned",
                "Lines that cross after a trial was stopped mean that it was stopped too early.",
                *(f.pruning, runs),
            )
        )
    return [drawn for drawn in made if drawn is not None]


def _metrics(runs: Runs) -> list[str]:
    """What was measured, the objectives first."""
    names = dict.fromkeys([*runs.objectives, *_METRICS])
    table = runs.trials
    return [name for name in names if f"val/{name}" in table and table[f"val/{name}"].notna().any()]


def _of_metric(runs: Runs, by: Sequence[str], metric: str) -> list[Plot | None]:
    from analysis import figures as f

    name = labels.title(metric)
    captions = {
        f.slices: (
            f"{name} by parameter",
            "Every completed trial. Best values at the edge of a range: search beyond it.",
        ),
        f.learning_curves: (
            f"{name} while training",
            "The median of each group and its middle half. Still rising at the end? Train longer.",
        ),
    }
    return [
        plot(title, caption, draw, runs, metric, metric=name, by=by)
        for draw, (title, caption) in captions.items()
        if draw is not f.learning_curves or f"val/{metric}" in runs.history
    ]


def plot(
    title: str,
    caption: str,
    function: Callable[..., go.Figure],
    *arguments: object,
    wide: bool = False,
    metric: str = "",
    **options: object,
) -> Plot | None:
    """What a function of `analysis.figures` draws, or None if it has nothing to show.

    A figure that fails is left out, and the log says so: the rest of the report is worth having.
    """
    try:
        figure = function(*arguments, **options)
        figure.to_json(validate=False)  # what cannot be written shall fail here
    except Exception as error:  # noqa: BLE001
        log.warning("the figure «%s» is left out: %s: %s", title, type(error).__name__, error)
        return None
    shown = sum(getattr(trace, "showlegend", False) is not False for trace in figure.data)
    if shown > _MOST_IN_LEGEND:
        figure.update_layout(showlegend=False)  # it would leave no room; hovering tells the names
    is_blank = not figure.data and not figure.layout.images
    return None if is_blank else Plot(title, caption, figure, wide, metric)
