"""What a loss can pay for on these images, before anything is trained.

    python -m experiments.preflight data=images data.root=PHOTOS latent_dim=64 beta=2

takes the overrides of `run.py` and prints a row for every loss and scale; `loss=` and
`loss.scale=` choose among them. `run.py` says the same of its own loss before it trains, and warns
where it expects a collapse. See `losses.capacity` for what is exact in it and what is not.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import losses
from experiments import config as configs
from experiments.errors import UserError
from experiments.terminal import errors_for_people

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from experiments.data import ImageSet
    from experiments.spectrum import Drops, Spectrum
    from losses.capacity import Capacity
    from losses.elbo import ELBO

log = logging.getLogger(__name__)

_ALIKE = 1.0  # of 255: a standard deviation below what 8 bits can tell
_FEW = 0.5  # share of the units below which most of them stay idle


@dataclass(frozen=True)
class Forecast:
    """What a loss can pay for.

    Attributes:
        loss: name of the distance, with the options that tell it from others.
        scale: of the loss.
        beta: weight of the KL.
        latent_dim: number of latent units.
        capacity: see `losses.capacity`.
        degree: of the distance, see `losses.degree`; it counts under `optimal_sigma` only.
    """

    loss: str
    scale: str
    beta: float
    latent_dim: int
    capacity: Capacity
    degree: float = 2.0

    def most_kl(self) -> float:
        """Nats of KL an image that an optimum can have; under `optimal_sigma` each halving of the
        distance pays for so many more, so that nothing bounds them.
        """
        return self.capacity.worth / self.beta if self.beta else math.inf

    def record(self) -> dict[str, float | None]:
        """For result.json."""
        bounded = self.scale != "optimal_sigma"
        found = asdict(self.capacity)
        return {
            "worth": found["worth"] if bounded else None,
            "worth_of_halving": None if bounded else found["worth"],
            "most_kl": self.most_kl() if bounded else None,
            "active_units": found["active"],
            "kl": found["kl"],
            "distance": found["distance"],
            "degree": self.degree,
        }


def forecast(
    loss: ELBO,
    found: Spectrum,
    *,
    name: str,
    latent_dim: int,
    measured: Drops | None = None,
) -> Forecast:
    """What a loss can pay for on the images of a spectrum.

    Args:
        loss: with its scale and beta.
        found: components of the images, as many as there are units or more.
        name: of the loss.
        latent_dim: number of units.
        measured: `experiments.spectrum.drops` of the loss's distance, if they are known.

    Raises:
        ValueError: the distance fails, or its values make no sense.
    """
    from experiments.spectrum import drops
    from losses.capacity import capacity

    lowered, start, degree = measured or drops(loss.distance, found, latent_dim)
    degree = loss.degree or degree
    values = found.mean.numel()
    can = capacity(
        lowered[:latent_dim],
        start,
        scale=loss.scale,
        values=values,
        beta=loss.beta,
        free_bits=loss.free_bits,
        degree=degree,
    )
    return Forecast(name, loss.scale, loss.beta, latent_dim, can, degree)


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


_LEAST_COUNT = 64  # of components, so that a sweep over smaller latent sizes finds them once


@dataclass(frozen=True)
class _Known:
    """Of the images that were looked at last: a worker's trials mostly have the same."""

    spectrum: Spectrum
    drops: dict[str, Drops]


_LAST: dict[tuple[Any, ...], _Known] = {}


def _known(images: ImageSet, train: NDArray[np.int64], latent_dim: int) -> _Known:
    """The principal components of the images to train on."""
    from experiments.spectrum import spectrum

    count = max(latent_dim, _LEAST_COUNT)
    key = (images.fingerprint, len(train), int(train.sum()), count)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = _Known(spectrum(images.images, train, count), {})
    return _LAST[key]


def _forecast(known: _Known, config: Mapping[str, Any], loss: ELBO, name: str) -> Forecast:
    """Of a config; its distance is measured once."""
    from experiments.spectrum import drops

    found = known.spectrum
    distance = repr(sorted((k, v) for k, v in config["loss"].items() if k not in losses.SCALING))
    if distance not in known.drops:
        known.drops[distance] = drops(loss.distance, found, len(found.eigenvalues))
    start = known.drops[distance].start
    if not 0 < start < math.inf:
        raise ValueError(
            "it cannot tell these images apart: their mean distance to their mean image is "
            f"{start:g}"
        )
    latent_dim = config["latent_dim"]
    return forecast(loss, found, name=name, latent_dim=latent_dim, measured=known.drops[distance])


def foresee(
    config: Mapping[str, Any],
    loss: ELBO,
    images: ImageSet,
    train: NDArray[np.int64],
) -> dict[str, float | None] | None:
    """Of a trial, for its record; says it, and warns of what will go wrong.

    Never stops a trial: None if the distance cannot be measured so.
    """
    try:
        known = _known(images, train, config["latent_dim"])
        one = _forecast(known, config, loss, config["loss"]["name"])
    except ValueError as error:
        log.warning("no forecast of what loss=%s can pay for: %s", config["loss"]["name"], error)
        return None
    _warn_of_likeness(known.spectrum)
    wrong = trouble(one)
    if wrong is None:
        log.info("%s", say(one))
    else:
        log.warning("%s: %s", say(one), wrong)
    return one.record()


def _warn_of_likeness(found: Spectrum) -> None:
    """Say that there is little to learn from images that hardly differ."""
    deviation = 255 * math.sqrt(found.variance / found.mean.numel())
    if deviation < _ALIKE:
        log.warning(
            "the images hardly differ: their pixels vary by %.2g of 255 around the mean image, so "
            "there is little to learn and every loss is near its floor; look at the images",
            deviation,
        )


def forecasts(
    wanted: Sequence[Mapping[str, Any]], images: ImageSet | None = None
) -> tuple[list[Forecast], str]:
    """What the losses of several plain configs can pay for, all on the data of the first.

    Args:
        wanted: the configs, whose losses, betas and latent sizes count.
        images: of the first, if they are loaded already.

    Returns:
        The forecasts in the order of the configs, and a title that names the data.

    Raises:
        UserError: the images cannot be had, or a loss is wrong.
    """
    from experiments import parts

    images = parts.load(wanted[0]) if images is None else images
    train = parts.splits_of(wanted[0], images).train
    known = _known(images, train, max(config["latent_dim"] for config in wanted))
    names = _names([config["loss"] for config in wanted])
    rows = []
    for config, name in zip(wanted, names, strict=True):
        loss = parts.build_loss(config, images.image_shape)
        try:
            rows.append(_forecast(known, config, loss, name))
        except ValueError as error:
            raise UserError(f"`loss={name}` cannot be forecast: {error}") from error
    size = "x".join(map(str, images.image_shape[1:]))
    betas = {config["beta"] for config in wanted}
    beta = f", beta={betas.pop():.3g}" if len(betas) == 1 else ""
    return rows, f"what a loss can pay for on {len(train)} images at {size}{beta}"


def _names(chosen: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of losses, with the options in which those of one name differ."""
    names = []
    for loss in chosen:
        alike = [other for other in chosen if other["name"] == loss["name"]]
        differing = [
            f" {key}={value}"
            for key, value in loss.items()
            if key not in ("name", "scale") and any(other.get(key) != value for other in alike)
        ]
        names.append(loss["name"] + "".join(differing))
    return names


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


def _every_loss(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The configs of every loss and scale that the overrides leave open."""
    base = configs.compose(overrides)
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    scales = (base["loss"]["scale"],) if "loss.scale" in keys else losses.SCALES
    scaling = {f"loss.{key}" for key in losses.SCALING}
    if "loss" in keys or any(k.startswith("loss.") and k not in scaling for k in keys):
        chosen = [base]
    else:
        files = sorted((Path(configs.__file__).parents[1] / "conf" / "loss").glob("*.yaml"))
        names = [file.stem for file in files if file.stem != "custom"]
        chosen = [configs.compose([*overrides, f"loss={name}"]) for name in names]
    return [one | {"loss": one["loss"] | {"scale": scale}} for one in chosen for scale in scales]


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(__doc__ or "")
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from experiments.device import take_threads

    take_threads()
    show(*forecasts(_every_loss(arguments)))


if __name__ == "__main__":
    main()
