"""A forecast in words, in a record, and many as a table."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.preflight.forecasting import Forecast, forecast_config, known_components

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from experiments.data import ImageSet
    from experiments.preflight.components import PrincipalComponents
    from losses.elbo import ELBO

log = logging.getLogger(__name__)

_ALIKE = 1.0  # of 255: a standard deviation below what 8 bits can tell
_FEW = 0.5  # share of the units below which most of them stay idle


def say(one: Forecast) -> str:
    """The forecast in a sentence."""
    can = one.capacity
    if one.scale == "optimal_sigma":
        pays = (
            f"pays {one.most_kl():,.0f} nats of KL for each halving of the distance "
            f"(of degree {one.degree:.3g})"
        )
    else:
        pays = f"can pay for {_short(one.most_kl())} nats of KL an image at most"
    beta = "" if one.beta == 1 else f" beta={one.beta:g}"
    return (
        f"loss={one.loss} loss.scale={one.scale}{beta} {pays}; a linear VAE would use "
        f"{can.active} of {one.latent_dim} units with {_short(can.kl)} nats"
    )


def trouble(one: Forecast) -> str | None:
    """What will go wrong and the remedy, or None."""
    can = one.capacity
    if can.beta_for_all is None or can.active >= _FEW * one.latent_dim:
        return None
    remedies = [] if one.scale == "optimal_sigma" else ["loss.scale=optimal_sigma"]
    remedies.append(f"beta={_rounded_down(can.beta_for_all):g}")
    if can.active == 0:
        return (
            "no unit pays for its KL, so expect posterior collapse: every reconstruction the mean "
            f"image; use {' or '.join(remedies)}"
        )
    return (
        f"{one.latent_dim - can.active} of {one.latent_dim} units do not pay for their KL, so "
        f"expect them to stay idle; use {' or '.join(remedies)}, or fewer units"
    )


def forecast_trial(
    config: Mapping[str, Any],
    loss: ELBO,
    images: ImageSet,
    train: NDArray[np.int64],
) -> dict[str, float | None] | None:
    """Of a trial, for its record; says it, and warns of what will go wrong.

    Never stops a trial: None if the distance cannot be measured so.
    """
    try:
        known = known_components(images, train, config["latent_dim"])
        one = forecast_config(known, config, loss, config["loss"]["name"])
    except ValueError as error:
        log.warning("no forecast of what loss=%s can pay for: %s", config["loss"]["name"], error)
        return None
    _warn_of_likeness(known.components)
    wrong = trouble(one)
    if wrong is None:
        log.info("%s", say(one))
    else:
        log.warning("%s: %s", say(one), wrong)
    return one.record()


def _warn_of_likeness(found: PrincipalComponents) -> None:
    """Say that there is little to learn from images that hardly differ."""
    deviation = 255 * math.sqrt(found.variance / found.mean.numel())
    if deviation < _ALIKE:
        log.warning(
            "the images hardly differ: their pixels vary by %.2g of 255 around the mean image, so "
            "there is little to learn and every loss is near its floor; look at the images",
            deviation,
        )


def table(rows: Sequence[Forecast], title: str) -> Table:
    """A row for each loss, scale and beta; several latent sizes share it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grouped: dict[tuple[str, str, float], list[Forecast]] = {}
    for one in rows:
        grouped.setdefault((one.loss, one.scale, one.beta), []).append(one)
    shown = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for heading in ("loss", "scale"):
        shown.add_column(heading, no_wrap=True)
    several_betas = len({one.beta for one in rows}) > 1
    headings = ["degree", *(["beta"] if several_betas else []), "KL at most", "active units", "KL"]
    for heading in headings:
        shown.add_column(heading, justify="right")
    shown.add_column("", no_wrap=True)
    for (loss, scale, beta), group in grouped.items():
        most = _short(group[0].most_kl())
        idle = [one.capacity.active for one in group if trouble(one) is not None]
        shown.add_row(
            loss,
            scale,
            f"{group[0].degree:.3g}" if scale == "optimal_sigma" else "",
            *([f"{beta:.3g}"] if several_betas else []),
            f"{most} (*)" if scale == "optimal_sigma" else most,
            ", ".join(f"{one.capacity.active} of {one.latent_dim}" for one in group),
            ", ".join(_short(one.capacity.kl) for one in group),
            "" if not idle else "idle units" if min(idle) else "collapse",
        )
    return shown


def legend(rows: Iterable[Forecast]) -> list[str]:
    """What the columns of the table are, and what helps where it expects trouble."""
    rows = list(rows)
    lines = ["KL in nats an image; active units and their KL are those of a linear VAE"]
    if any(one.scale == "optimal_sigma" for one in rows):
        lines.append(
            "(*) for each halving of the distance: this scale adapts to what is left, and the "
            "more a distance grows with the residuals (its degree), the less is a halving worth"
        )
    troubled = [one for one in rows if trouble(one) is not None]
    if troubled:
        betas = [one.capacity.beta_for_all for one in troubled if one.capacity.beta_for_all]
        remedies = [f"a smaller beta, down to {_rounded_down(min(betas)):g}"]
        if any(one.scale != "optimal_sigma" for one in troubled):
            remedies.insert(0, "loss.scale=optimal_sigma")
        lines.append(
            "where it says collapse no unit pays for its KL, and where it says idle units most "
            f"do not; what helps is {' or '.join(remedies)}"
        )
    return lines


def show(rows: Sequence[Forecast], title: str) -> None:
    """Print the table and its legend."""
    from rich.console import Console

    console = Console()
    console.print(table(rows, title))
    for text in legend(rows):
        console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _short(nats: float) -> str:
    if math.isinf(nats):
        return "unbounded"
    return f"{nats:,.0f}" if nats >= 100 else f"{nats:.2g}"


def _rounded_down(value: float) -> float:
    """To two digits, so that it stays below."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.floor(value / unit) * unit
