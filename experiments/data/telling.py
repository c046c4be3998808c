"""What a person is told of images that were loaded: what was left out, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.data.imageset import ImageSet, Skipped
from experiments.data.sources.contents import Contents
from experiments.errors import UserError

_SHOWN = 20  # bad files named in a message; all are in `ImageSet.skipped`
_KINDS = 8  # of other files

_told: set[tuple[str, str, str]] = set()

log = logging.getLogger(__name__)


def judge(skipped: list[Skipped], good: int, root: Path, max_bad_fraction: float) -> None:
    """Refuse a source of which too much cannot be used.

    Raises:
        UserError: the share of unusable images is above `max_bad_fraction`.
    """
    total = len(skipped) + good
    if total and len(skipped) / total > max_bad_fraction:
        raise UserError(
            f"at most {max_bad_fraction:.4g} of the images may be unusable "
            f"(`data.max_bad_fraction`), but {len(skipped)} of {total} in {root} are:\n"
            f"{_listed(skipped)}\nremove or repair them, or raise data.max_bad_fraction"
        )


def no_images(root: Path, skipped: list[Skipped], contents: Contents) -> UserError:
    """The error of a source without one usable image."""
    from experiments.data.sources.opening import FILES

    if skipped:
        return UserError(
            f"`data.root` must hold images, but none of {root} can be used:\n{_listed(skipped)}"
        )
    others = contents.others()
    packed = contents.first(tuple(FILES)) if root.is_dir() else None
    remedy = (
        "name the folder with your photos"
        if packed is None
        else f"if they are in that archive or array, name it: data.root={root / packed}"
    )
    return UserError(
        f"`data.root` must hold images, but none of the {sum(others.values())} files in {root} "
        f"is one: {_counted(others)}; {remedy}"
    )


def refuse_one_picture(images: ImageSet) -> None:
    """Refuse images that are all the same.

    Raises:
        UserError: there are several, and no two differ.
    """
    count = len(images.names)
    if count < 2 or len(np.unique(images.digests)) > 1:
        return
    pixels = images.images[0].reshape(len(images.images[0]), -1)
    is_plain = (pixels == pixels[:, :1]).all()
    colour = ", ".join(str(value) for value in pixels[:, 0])
    what = f", plain ({colour}) of 255" if is_plain else ""
    white = "; what is transparent shows white" if is_plain and (pixels == 255).all() else ""
    raise UserError(
        f"images must differ for a model to learn from them, but all {count} in {images.source} "
        f"are the same picture{what} at this size{white}; add others, or look at how they were made"
    )


def tell(images: ImageSet) -> None:
    """Say what images lack and how they were made: once, also where many trials load them."""
    if images.others and _is_news(images, repr(images.others)):
        count = sum(images.others.values())
        log.info(
            "%d file%s in %s %s and left out: %s",
            count,
            "" if count == 1 else "s",
            images.source,
            "is no image" if count == 1 else "are no images",
            _counted(images.others),
        )
    for remark in images.remarks:
        if _is_news(images, remark.text):
            level = logging.WARNING if remark.is_warning else logging.INFO
            log.log(level, "%s: %s", images.source, remark.text)
    if images.skipped and _is_news(images, "skipped"):
        count = len(images.skipped) + len(images.names)
        skipped = _listed(images.skipped)
        log.warning(
            "skipped %d of %d images in %s:\n%s",
            len(images.skipped), count, images.source, skipped,
        )  # fmt: skip


def _is_news(images: ImageSet, what: str) -> bool:
    told = (images.source, images.fingerprint, what)
    is_news = told not in _told
    _told.add(told)
    return is_news


def _listed(skipped: list[Skipped]) -> str:
    lines = [f"  {s.name}: {s.reason}" for s in skipped[:_SHOWN]]
    if len(skipped) > _SHOWN:
        lines.append(f"  and {len(skipped) - _SHOWN} more")
    return "\n".join(lines)


def _counted(others: Mapping[str, int]) -> str:
    shown = [f"{count} {kind}" for kind, count in list(others.items())[:_KINDS]]
    rest = sum(list(others.values())[_KINDS:])
    return ", ".join([*shown, f"{rest} more"] if rest else shown)
