"""What a file is by its first bytes and its name: an image, one that is not read, or neither."""

from __future__ import annotations

import posixpath
import re

HEAD = 512
"""So many bytes of a file tell."""

_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib",
     ".gif", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".avifs")
)  # fmt: skip
"""Of files that say by their name that they are images that are read."""

_RAW = "a camera raw file"
_RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))  # sizes in bytes that exist

_FOREIGN_SUFFIXES = {
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys((".psd", ".psb"), "Photoshop's format"),
    ".xcf": "GIMP's format",
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".j2c"), "JPEG 2000"),
    ".jxl": "JPEG XL",
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"), "PNM"),
    ".tga": "TGA",
    ".exr": "OpenEXR",
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys(_RAW_SUFFIXES, _RAW),
}

_FOREIGN_HEADS = {
    b"8BPS": "Photoshop's format",
    b"gimp xcf": "GIMP's format",
    b"\0\0\0\x0cjP  \r\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n": "JPEG XL",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance's format",
    b"FUJIFILMCCD-RAW": _RAW,
    b"<svg": "SVG",
}

_BRANDS = frozenset(
    (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)
"""AVIF and HEIC in ISO's base media file format (ISO/IEC 14496-12); films have others."""


def is_read(name: str, head: bytes) -> bool:
    """Whether the content is of a format that is read, whatever the file is called."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS
    if head.startswith(b"BM"):  # as many a text does
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    # The TIFF of a raw file has only a small preview.
    is_raw = head[8:10] == b"CR" or _FOREIGN_SUFFIXES.get(_suffix(name)) == _RAW
    return head.startswith(_TIFF) and not is_raw


def foreign_format(name: str, head: bytes) -> str | None:
    """The format of an image that is not read, by its content or its name; None of others."""
    if head[4:12] == b"ftypcrx ":
        return _RAW
    if head[128:132] == b"DICM":
        return "DICOM"
    if head.startswith(_TIFF) and head[8:10] == b"CR":
        return _RAW
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<?xml") and b"<svg" in text:
        return "SVG"
    by_content = (what for start, what in _FOREIGN_HEADS.items() if text.startswith(start))
    return next(by_content, None) or _FOREIGN_SUFFIXES.get(_suffix(name))


def is_named_image(name: str) -> bool:
    """Whether the name says that the file is an image, read or not."""
    return _suffix(name) in _SUFFIXES or _suffix(name) in _FOREIGN_SUFFIXES


def may_be_image(name: str) -> bool:
    """Whether a file of which only the name is known may be an image."""
    return is_named_image(name) or not _suffix(name)


def kind(name: str) -> str:
    """What files that are no images are counted by: the suffix."""
    suffix = _suffix(name)
    if not suffix:
        return "without suffix"
    return suffix if re.fullmatch(r"\.[\w~+-]{1,10}", suffix) else "other"


def stem(name: str) -> str:
    """The name without its suffix, which a photo and its raw file share."""
    return posixpath.splitext(name)[0].lower()


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()
