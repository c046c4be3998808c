"""Hostile files of many kinds, drawn from a seed: the same seed makes the same files.

A kind is a function that yields what is to be read, of a folder of its own, an honest record to
begin from, and a random generator. `KINDS` has them all; a new fault becomes a case of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

READERS = ("serve", "analyse", "weights", "generate", "export", "images", "rerun", "search")
"""What may read a case; see `tests.hostile.reading`."""


@dataclass(frozen=True)
class Case:
    """A file, or a folder of them, and who is to read it.

    Attributes:
        kind: of the case.
        name: of the case, unique in its kind.
        reader: one of `READERS`.
        reference: what the reader is given.
    """

    kind: str
    name: str
    reader: str
    reference: str

    def plain(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


Made = Iterator[tuple[str, str, str]]
"""Name, reader and reference of each case."""
Kind = Callable[[Path, Path, Random], Made]
KINDS: dict[str, Kind] = {}


def kind(made: Kind) -> Kind:
    """Register a kind by the name of its function."""
    KINDS[made.__name__] = made
    return made


def make(folder: Path, honest: Path, seed: int) -> Iterator[Case]:
    """All cases.

    Args:
        folder: to write into.
        honest: the record of a trial that was completed.
        seed: of what is drawn.
    """
    from tests.hostile import arrays, photos, records, studies, weights  # noqa: F401 - register

    for name, made in {"honest": _honest, **KINDS}.items():
        own = folder / name
        own.mkdir()
        for case, reader, reference in made(own, honest, Random(f"{seed} {name}")):
            yield Case(name, case, reader, reference)


def _honest(folder: Path, honest: Path, random: Random) -> Made:
    """What is to be read as ever, by every reader."""
    from tests.hostile.records import sweep_of
    from tests.hostile.studies import study_of

    trials = sweep_of(folder, honest)
    study_of(folder / "study.db", trials)
    np.save(folder / "images.npy", np.full((20, 32, 32, 3), 99, np.uint8))
    Image.fromarray(np.full((40, 40, 3), 99, np.uint8)).save(folder / "photo.png")
    given = {
        "serve": folder,
        "analyse": folder,
        "weights": trials[0],
        "images": folder / "images.npy",
        "generate": f"{honest}|{folder}/photo.png",
    }
    for reader, reference in given.items():
        yield reader, reader, str(reference)
    for reader in ("serve", "analyse"):
        yield f"{reader} a study", reader, f"sqlite:///{folder}/study.db#vae"


def wrong_values() -> list[Any]:
    """Values of every type that JSON knows, and absurd ones, where another one is expected."""
    return [
        None, True, -1, 0, 10**30, -0.5, 1e308, float("nan"), "", "text", "\x1b]0;owned\x07",
        "\u202e\u0000", [], [None], [[1]], [{"a": []}], {}, {"a": {"b": 1}}, {"": None},
    ]  # fmt: skip
