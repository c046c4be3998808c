"""One file from a folder of photos: `python -m experiments.data.prepare photos data/images.zip`.

Photos are decoded, turned upright and brought to one size, as `data=images` does it, and written
as PNG into a .zip that `data.root` takes. Training on it gives what training on the photos gives,
bit for bit, with the same split; but it is small, and the same photos give the same bytes, so it
can be versioned (docs/data.md).
"""

from __future__ import annotations

import argparse
import io
import logging
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.config import FITS
from experiments.data.imageset import ImageSet
from experiments.data.loading import load_images
from experiments.data.parallel import in_order
from experiments.errors import UserError
from experiments.record.files import replacing
from experiments.terminal import errors_for_people

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a .zip can say


def prepare(
    root: str | Path,
    out: Path,
    *,
    size: int = 64,
    channels: int = 3,
    fit: str = "crop",
    max_bad_fraction: float = 0.05,
) -> ImageSet:
    """Write the images of a source into one .zip of PNG files.

    Args:
        root: a folder or file that `experiments.data.load_images` takes.
        out: the .zip; what was there is replaced when the new one is whole.
        size: side of the square images, pixels.
        channels: 1 (grey) or 3.
        fit: "crop" (the central square), "pad" (black bars) or "squash" (change the ratio).
        max_bad_fraction: largest share of unusable files, in [0, 1]; they are left out.

    Returns:
        The images that were written.

    Raises:
        UserError: the source or a setting is wrong, or `out` is no .zip or cannot be written.
    """
    if out.suffix.lower() != ".zip":
        raise UserError(f"the file to write must end in .zip, but got {out}")
    with tempfile.TemporaryDirectory(prefix="vaesweep-") as cache:
        images = load_images(
            root=root, size=size, channels=channels, fit=fit, max_bad_fraction=max_bad_fraction,
            cache_dir=cache,
        )  # fmt: skip
        try:
            _write(images, out)
        except OSError as error:
            raise UserError(
                f"the file to write must be in a directory that can be written and has room, but "
                f"{out} gives: {error.strerror or error}"
            ) from error
    return images


def _write(images: ImageSet, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    # PNG is compressed already.
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "x") as archive:
        encoded = in_order(_png, images.images)
        for name, png in zip(_file_names(images.names), encoded, strict=True):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is written
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, png)


def _png(image: NDArray[np.uint8]) -> bytes:
    """An image (C, H, W) as a file; the level is that of the smallest one."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def _file_names(names: list[str]) -> list[str]:
    """Names that an archive may hold, all different; numbers where that cannot be."""
    # A drive's colon and a backslash could lead out of an archive.
    safe = [re.sub(r"[\\:]", "_", name) for name in names]
    own = [name if name.lower().endswith(".png") else f"{name}.png" for name in safe]
    if len(set(own)) == len(own):
        return own
    return [f"{number}.png" for number in range(len(names))]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.data.prepare", description=__doc__)
    parser.add_argument("root", help="the photos: a folder, .zip, .tar, .npy, .npz or .pt")
    parser.add_argument("out", type=Path, help="the .zip to write")
    parser.add_argument("--size", type=int, default=64, help="side in pixels (64)")
    parser.add_argument("--channels", type=int, default=3, help="1, grey, or 3 (3)")
    parser.add_argument("--fit", choices=FITS, default="crop", help="how to make it square (crop)")
    parser.add_argument("--max-bad-fraction", type=float, default=0.05,
                        help="of files that cannot be read (0.05)")  # fmt: skip
    return parser


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    images = prepare(
        arguments.root,
        arguments.out,
        size=arguments.size,
        channels=arguments.channels,
        fit=arguments.fit,
        max_bad_fraction=arguments.max_bad_fraction,
    )
    sys.stdout.write(
        f"{len(images.names)} images, {arguments.out.stat().st_size / 2**20:.1f} MiB: "
        f"{arguments.out}\n"
    )


if __name__ == "__main__":
    main()
