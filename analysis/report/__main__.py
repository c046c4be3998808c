"""Write a report: `python -m analysis.report outputs/vae/sweep`.

Exits with 0; with 1 if there is no report, or if there is one that has no answer because no trial
was completed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from analysis.report import FORMS, default_path, write
from experiments.errors import printable
from experiments.record.files import given_file
from experiments.terminal import errors_for_people

_SOURCES = """\
a sweep's or a trial's directory, a folder of sweeps, a study (sqlite:///study.db#name,
postgresql://...#name, journal:///file.log#name) or W&B runs (wandb://entity/project)"""


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("analysis").setLevel(logging.INFO)
    from analysis.load import load

    out = arguments.out and given_file(arguments.out, "--out")
    out = out or default_path(arguments.source, arguments.format)
    runs = load(*arguments.source)
    content = write(
        runs,
        out,
        form=arguments.format,
        sources=arguments.source,
        figures=arguments.figures,
        margins=dict(arguments.margin),
    )
    if content is not None:
        logging.getLogger("analysis").info("%s", "\n".join(["answer:", *content.verdict]))
    sys.stdout.write(f"{printable(str(out))}\n")
    sys.exit(0 if (runs.trials["status"] == "completed").any() else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__)
    parser.add_argument("source", nargs="+", help=_SOURCES)
    parser.add_argument(
        "--format",
        choices=FORMS,
        default="html",
        help="one HTML file; Markdown; or the table of all trials",
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="of Markdown: draw its figures (SVG) into this folder; needs Chrome or Chromium",
    )
    parser.add_argument(
        "--margin",
        type=_margin,
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="below which a difference does not matter, such as psnr=0.2; may be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the file; by default report.FORMAT in the source's directory, or here if there are "
        "several sources or the source is no directory",
    )
    return parser


def _margin(text: str) -> tuple[str, float]:
    from analysis.runs import check_margin

    name, _, value = text.partition("=")
    try:
        margin = float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be METRIC=VALUE, such as psnr=0.2, but got {text!r}"
        ) from error
    try:
        check_margin(name, margin)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name, margin


if __name__ == "__main__":
    main()
