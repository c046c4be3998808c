"""The figures of a report, each with what one reads from it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analysis import figures as f
from analysis import labels
from analysis.report.content import Plot
from analysis.runs import Runs
from experiments.errors import UserError
from experiments.metrics import shown

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import Tensor

    from analysis.comparison import Comparison
    from models.network import Network

log = logging.getLogger(__name__)

_MOST_IN_LEGEND = 16
_MOST_MODELS = 12
_REFERENCES = 200  # images that say how much each latent unit is used


def decision_plots(comparison: Comparison) -> list[Plot]:
    """What was found on each metric that was decided, the objectives first."""
    made: list[Plot] = []
    for result in comparison.results.values():
        decision, measure, names = result.decision, result.measure, result.levels
        if decision is None:
            continue
        is_secondary = result.metric not in comparison.objectives
        metric = f"{measure.title} (secondary)" if is_secondary else measure.title
        made += plot(
            f"{measure.title}: how far each is behind {names[decision.leader]}",
            "Thin: the interval that must be clear of zero for «worse». Thick: the 90% interval "
            "that must lie in the shaded margin for «practically equal».",
            *(f.effects, decision, names, measure),
            metric=metric,
            wide=True,
        )
        if len(decision.rivals) > 1:
            made += plot(
                f"{measure.title}: every pair",
                "How much better the row is than the column. Blue and brown: told apart. "
                "≈ practically equal, ? open.",
                *(f.pairs, result.every_pair(), names, measure),
                metric=metric,
                wide=True,
            )
    return made


def search_plots(runs: Runs, by: Sequence[str]) -> list[Plot]:
    """What the search saw: every trial, on the validation split.

    Args:
        runs: of the report.
        by: columns that make the groups which are compared.
    """
    table = runs.trials
    names = dict.fromkeys([*runs.objectives, *shown("compared", "plotted")])
    measured = [n for n in names if f"val/{n}" in table and table[f"val/{n}"].notna().any()]
    made = [drawn for metric in measured for drawn in _of_metric(runs, by, metric)]
    made += plot(
        "What mattered",
        "A parameter near 0 could stay as it is, within the range that was searched.",
        *(f.importance, runs),
    )
    if len(runs.objectives) == 2:
        first, second = runs.objectives
        made += plot(
            f"{labels.title(first)} against {labels.title(second)}",
            "On the line nothing improves one without giving up some of the other.",
            *(f.pareto_front, runs, (first, second)),
            by=by,
        )
    if (table["status"] == "pruned").any():
        made += plot(
            "Where trials were pruned",
            "Lines that cross after a trial was stopped mean that it was stopped too early.",
            *(f.pruning, runs),
        )
    return made


def _of_metric(runs: Runs, by: Sequence[str], metric: str) -> list[Plot]:
    name = labels.title(metric)
    made = plot(
        f"{name} by parameter",
        "Every completed trial. Best values at the edge of a range: search beyond it.",
        *(f.slices, runs, metric),
        metric=name,
        by=by,
    )
    if f"val/{metric}" in runs.history:
        made += plot(
            f"{name} while training",
            "The median of each group and its middle half. Still rising at the end? Train longer.",
            *(f.learning_curves, runs, metric),
            metric=name,
            by=by,
        )
    return made


def model_plots(runs: Runs, compared: Sequence[tuple[str, str]]) -> list[Plot]:
    """Samples of one model of each level, and more of the best one.

    The images are of the test split, so that no model was chosen by them. A model whose checkpoint
    is not here is left out, and the log says so; the best one needs its images as well.

    Args:
        runs: of the report.
        compared: the names of levels, best first, and the trial that stands for each.
    """
    from analysis.trained.models import held_out, load_network, train_images

    trials = runs.trials.set_index("trial", drop=False)
    networks = {}
    best: tuple[str, Network, Tensor, Tensor] | None = None
    for level, trial in compared[:_MOST_MODELS]:
        row = trials.loc[trial].to_dict()
        try:
            networks[level] = load_network(row)
            best = best or (level, networks[level], train_images(row), held_out(row))
        except UserError as error:
            log.warning("no pictures of %s: %s", level, error)
    if best is None:
        return []
    name, network, seen, images = best
    return [
        *plot(
            "Samples from the prior",
            "The same image everywhere: the latents are not used. Broken ones: beta is too small.",
            *(f.samples, networks),
            wide=True,
        ),
        *plot(
            f"What the latent units of {name} mean",
            "One unit a row, moved while the others stay, in the order of how much each says.",
            *(f.traversals, network, images[:_REFERENCES]),
            wide=True,
        ),
        *plot(
            f"Samples of {name} above the training images nearest to them",
            "Much nearer than held-out images are: the model memorises.",
            *(f.nearest_training_images, network, seen),
            held_out=images,
            wide=True,
        ),
    ]


def plot(
    title: str,
    caption: str,
    function: Callable[..., go.Figure],
    *arguments: object,
    wide: bool = False,
    metric: str = "",
    **options: object,
) -> list[Plot]:
    """What a function of `analysis.figures` draws, or none if it has nothing to show.

    A figure that fails is left out, and the log says so: the rest of the report is worth having.
    """
    try:
        figure = function(*arguments, **options)
        figure.to_json(validate=False)  # what cannot be written shall fail here
    except Exception as error:  # noqa: BLE001
        log.warning("the figure «%s» is left out: %s: %s", title, type(error).__name__, error)
        return []
    shown = sum(getattr(trace, "showlegend", False) is not False for trace in figure.data)
    if shown > _MOST_IN_LEGEND:
        figure.update_layout(showlegend=False)  # it would leave no room; hovering tells the names
    is_blank = not figure.data and not figure.layout.images
    return [] if is_blank else [Plot(title, caption, figure, wide, metric)]
