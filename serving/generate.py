"""Images from a trained model: `python -m serving.generate --checkpoint outputs/vae/<trial>`.

Without a mode, a grid of new images. A photo can also be `seed:7`, the image of that seed.
The same command writes the same bytes.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UserError
from experiments.record.files import replacing
from experiments.terminal import errors_for_people
from serving.model.references import KINDS

if TYPE_CHECKING:
    from torch import Tensor

    from experiments.scoring.pictures import Picture
    from serving.model.checkpoints import Model

_BATCH = 256
_UNITS = 8
_SEED = "seed:"
_RANGES = {
    "grid": (1, 64),
    "seed": (0, 2**63 - 1),
    "temperature": (0, 100),
    "steps": (2, 1000),
    "count": (1, 10**7),
}
_DRAWING = ("interpolate", "traverse", "average", "arithmetic")  # where a photo may be a seed
_MODES = ("count", "reconstruct", *_DRAWING)
_OPTIONS = {
    "grid": ("alone", "reconstruct"),
    "seed": ("alone", "count"),
    "temperature": ("alone", "count"),
    "steps": ("interpolate", "traverse"),
    "units": ("traverse",),
}
"""The modes that an option is of."""


@dataclass(frozen=True)
class Options:
    """What the command line says, apart from the mode.

    Attributes:
        grid: side of the grid, images.
        seed: of the draws.
        temperature: standard deviation of the draws.
        steps: images on a path.
        progress: whether to show a bar.
    """

    grid: int = 8
    seed: int = 0
    temperature: float = 1.0
    steps: int = 11
    progress: bool = True


def sheet(model: Model, options: Options) -> Picture:
    """A grid of draws of the prior."""
    count = options.grid**2
    return _grid(model, _drawn(model, count, options), options)


def many(model: Model, count: int, directory: Path, options: Options) -> None:
    """Write `count` images, `00000.png` and on, into a directory.

    Raises:
        OSError: the directory cannot be written.
    """
    from experiments.data.parallel import shown
    from serving.encoding import SMALL, png

    directory.mkdir(parents=True, exist_ok=True)
    drawn = _drawn(model, count, options)
    images = shown(_decoded(model, drawn), count, doing="generating", progress=options.progress)
    digits = max(5, len(str(count - 1)))
    for i, image in enumerate(images):
        _write(directory / f"{i:0{digits}}.png", png(image.numpy(), SMALL))


def reconstructions(model: Model, photos: list[str], options: Options) -> Picture:
    """Photos above their reconstructions."""
    import torch

    from experiments.scoring.evaluation import to_uint8
    from experiments.scoring.pictures import reconstruction_grid
    from serving.model import codec
    from serving.model.photos import read_photo

    x = torch.stack([read_photo(Path(photo), model) for photo in photos])
    mean, _ = codec.encode(model.network, x)
    x_hat = to_uint8(codec.decode(model.network, mean))
    return reconstruction_grid(x, x_hat, columns=options.grid)


def interpolation(model: Model, photos: list[str], options: Options) -> list[Picture]:
    """Each image on the way from one photo to the other."""
    from experiments.scoring.pictures import grid
    from serving.model import latents

    start, end = (_point(model, photo, options) for photo in photos)
    path = latents.interpolate(start, end, options.steps)
    return [grid(image[None], columns=1, padding=0) for image in _decoded(model, path)]


def traversal(model: Model, photo: str, units: list[int] | None, options: Options) -> Picture:
    """A row for each unit, in which it goes from -3 to 3 and all others stay."""
    from serving.model import latents

    chosen = model.informative_units(_UNITS) if units is None else units
    points = latents.traverse(_point(model, photo, options), chosen, options.steps)
    return _grid(model, points, options, columns=options.steps)


def averaged(model: Model, photos: list[str], options: Options) -> Picture:
    """The photos, and the image of their latents' mean."""
    from serving.model import latents

    points = [_point(model, photo, options) for photo in photos]
    return _row(model, [*points, latents.average(_stack(points))], options)


def calculated(model: Model, expression: list[str], options: Options) -> Picture:
    """The photos of an expression such as `a.png - b.png + c.png`, and the image of its value."""
    from serving.model import latents

    terms = _terms(expression)
    points = [_point(model, photo, options) for _, photo in terms]
    signs = [sign for sign, _ in terms]
    return _row(model, [*points, latents.combine(zip(signs, points, strict=True))], options)


def _terms(expression: list[str]) -> list[tuple[float, str]]:
    signs, photos = ["+", *expression[1::2]], expression[::2]
    if len(expression) % 2 == 0 or not set(signs) <= {"+", "-"}:
        raise UserError(
            "`--arithmetic` must be photos with + or - between them, each a word of its own "
            f"(a.png - b.png + c.png), but got {' '.join(expression)}"
        )
    return [
        (1.0 if sign == "+" else -1.0, photo) for sign, photo in zip(signs, photos, strict=True)
    ]


def _point(model: Model, photo: str, options: Options) -> Tensor:
    """The latent (L,) of a photo or of `seed:N`."""
    from serving.model import codec, latents
    from serving.model.photos import read_photo

    if photo.startswith(_SEED):
        number = photo.removeprefix(_SEED)
        if not number.isdecimal():
            raise UserError(f"a seed must be an integer of 0 or more, but got {photo!r}")
        seed = int(number)
        return latents.draw(
            1, model.network.latent_dim, seed=seed, temperature=options.temperature
        )[0]
    return codec.encode(model.network, read_photo(Path(photo), model)[None])[0][0]


def _decoded(model: Model, points: Tensor) -> Iterator[Tensor]:
    from experiments.scoring.evaluation import to_uint8
    from serving.model import codec

    for batch in points.split(_BATCH):
        yield from to_uint8(codec.decode(model.network, batch))


def _grid(model: Model, points: Tensor, options: Options, columns: int | None = None) -> Picture:
    from experiments.data.parallel import shown
    from experiments.scoring.pictures import grid

    images = shown(
        _decoded(model, points), len(points), doing="generating", progress=options.progress
    )
    return grid(_stack(list(images)), columns=columns or options.grid)


def _row(model: Model, points: list[Tensor], options: Options) -> Picture:
    return _grid(model, _stack(points), options, columns=len(points))


def _stack(tensors: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(tensors)


def _drawn(model: Model, count: int, options: Options) -> Tensor:
    from serving.model import latents

    return latents.draw(
        count, model.network.latent_dim, seed=options.seed, temperature=options.temperature
    )


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _picture(model: Model, arguments: argparse.Namespace, options: Options) -> bytes:
    from serving.encoding import ANIMATIONS, SMALL, animation, png

    modes: dict[str, Callable[[], Picture]] = {
        "reconstruct": lambda: reconstructions(model, arguments.reconstruct, options),
        "traverse": lambda: traversal(model, arguments.traverse, arguments.units, options),
        "average": lambda: averaged(model, arguments.average, options),
        "arithmetic": lambda: calculated(model, arguments.arithmetic, options),
    }
    if arguments.interpolate:
        frames = interpolation(model, arguments.interpolate, options)
        kind = arguments.out.suffix.lstrip(".").lower()
        if kind in ANIMATIONS:
            return animation(frames, kind)
        import numpy as np

        return png(np.concatenate(frames, axis=1), SMALL)
    for mode, make in modes.items():
        if getattr(arguments, mode) is not None:
            return png(make(), SMALL)
    return png(sheet(model, options), SMALL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        required=True,
        metavar="WHAT",
        help=KINDS,
    )
    add("--out", type=Path, help="file to write (generated.png), or directory with --count")
    add("--grid", type=int, help="side of the grid, of new images or --reconstruct (8)")
    add("--seed", type=int, help="of the draws (0)")
    add("--temperature", type=float, help="standard deviation of the draws (1)")
    add("--steps", type=int, help="images on a path, of --interpolate and --traverse (11)")
    add("--units", type=int, nargs="+", help="of --traverse (the 8 most informative)")
    add("--no-progress", action="store_true", help="no progress bar")
    modes = parser.add_mutually_exclusive_group()
    add = modes.add_argument
    add("--count", type=int, help="write so many images into the directory --out")
    add("--reconstruct", nargs="+", metavar="PHOTO", help="photos above their reconstructions")
    add(
        "--interpolate",
        nargs=2,
        metavar="PHOTO",
        help="the way from one to the other; a strip, or with --out x.gif or x.webp an animation",
    )
    add("--traverse", metavar="PHOTO", help="one latent unit a row, from -3 to 3")
    add("--average", nargs="+", metavar="PHOTO", help="photos, and the mean of their latents")
    add("--arithmetic", nargs="+", metavar="PHOTO", help="on latents: a.png - b.png + c.png")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Raise a `UserError` for a number out of range, before anything is loaded."""
    for name, (least, most) in _RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"`--{name}` must be {least} to {most}, but got {value}")
    _check_modes(arguments)
    formats = [".png", ".gif", ".webp"] if arguments.interpolate else [".png"]
    if arguments.count is not None and arguments.out.is_file():
        raise UserError(f"`--out` must be a directory with --count, but {arguments.out} is a file")
    if arguments.count is None and arguments.out.suffix.lower() not in formats:
        raise UserError(f"`--out` must end in {' or '.join(formats)}, but got {arguments.out}")


def _check_modes(arguments: argparse.Namespace) -> None:
    """Raise a `UserError` for an option that the mode would ignore."""
    mode, value = next(
        ((m, v) for m in _MODES if (v := getattr(arguments, m)) is not None), ("alone", ())
    )
    photos = [value] if isinstance(value, str) else value
    draws = mode in _DRAWING and any(photo.startswith(_SEED) for photo in photos)
    for name, modes in _OPTIONS.items():
        if getattr(arguments, name) is None or mode in modes or (name == "temperature" and draws):
            continue
        alone = "alone or " if "alone" in modes else ""
        beside = " or ".join(f"--{m}" for m in modes if m != "alone")
        beside += f", or with {_SEED}N as a photo" if name == "temperature" else ""
        got = "it stands alone" if mode == "alone" else f"got --{mode}"
        raise UserError(
            f"`--{name}` must stand {alone}beside {beside}, whose option it is, but {got}"
        )


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    if arguments.out is None:
        arguments.out = Path("generated" if arguments.count is not None else "generated.png")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _check(arguments)
    from experiments.machine.device import take_threads
    from serving.model.checkpoints import load

    take_threads()
    given = {n: v for n in _RANGES if n != "count" and (v := getattr(arguments, n)) is not None}
    options = Options(**given, progress=not arguments.no_progress)
    model = load(arguments.checkpoint)
    try:
        if arguments.count is not None:
            many(model, arguments.count, arguments.out, options)
        else:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            _write(arguments.out, _picture(model, arguments, options))
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(
            f"`--out` must be a place that can be written and has space left, but "
            f"{arguments.out} gives: {error.strerror}"
        ) from error
    logging.getLogger(__name__).info("wrote %s", arguments.out)


if __name__ == "__main__":
    main()
