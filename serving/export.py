"""A trained model for other programs: `python -m serving.export --checkpoint outputs/vae/<trial>`.

Writes ONNX, or a program of torch.export (.pt2), that takes batches of any size, float32, and
needs no vaesweep. It is compared with the original before the file is put in its place.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from experiments.errors import UserError
from experiments.record.files import replacing
from experiments.terminal import errors_for_people, shown_path
from serving.model.references import KINDS

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_PARTS = ("vae", "decoder", "encoder")

log = logging.getLogger(__name__)


def export(reference: str, part: str, kind: str, out: Path) -> float:
    """Write `part` of a model to the file `out`.

    Args:
        reference: of a checkpoint, see `serving.model.references.find_checkpoint`.
        part: "vae", "decoder" or "encoder".
        kind: "onnx" or "torch".
        out: a file that does not exist yet.

    Returns:
        The largest difference between what the file and the original computed.

    Raises:
        UserError: `out` exists or has another suffix, packages are missing, the checkpoint cannot
            be used, or the export computes something else. No file is left then.
        OSError: `out` cannot be written.
    """
    if out.suffix.lower() != SUFFIXES[kind]:
        raise UserError(f"`--out` must end in {SUFFIXES[kind]} for {kind}, but got {out}")
    if out.exists():
        raise UserError(f"`--out` must be a new file, but {out} exists; remove it or name another")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        try:
            temporary.touch()  # what cannot be written is said before anything is computed
        except FileNotFoundError as error:  # there is the directory, but of a kind such as /proc
            raise UserError(
                f"`--out` must be a place that can be written, but {out} gives: {error.strerror}"
            ) from error
        from serving.model import portable
        from serving.model.checkpoints import load

        if kind == "onnx":
            portable.require_onnx()
        model = load(reference)
        write = portable.write_onnx if kind == "onnx" else portable.write_torch
        return portable.largest_difference(model, part, write(model, part, temporary))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="WHAT", help=KINDS)
    add("--format", choices=list(SUFFIXES), default="onnx", help="of the file (onnx)")
    add("--part", choices=_PARTS, default="vae", help="of the model (vae)")
    add("--out", type=Path, help="file to write (PART.onnx or PART.pt2)")
    return parser


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what exporters say of their steps."""
    own = (__name__.partition(".")[0], "__main__", "serving", "experiments")
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in own


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    kind, part = arguments.format, arguments.part
    out = arguments.out or Path(part + SUFFIXES[kind])
    handler = logging.StreamHandler()
    handler.addFilter(_is_ours)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    difference = export(arguments.checkpoint, part, kind, out)
    log.info("wrote %s: at most %.1e from the original's values", shown_path(out), difference)


if __name__ == "__main__":
    main()
