"""Every kind of image file that people have comes out as the picture that it shows."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import resize

from experiments.data import ImageSet, load_images, loading, telling
from experiments.data.decoding.decode import BadImageError, decode, quiet
from experiments.data.sources import source
from experiments.data.sources.opening import open_source
from experiments.errors import UserError

# Four quarters of different colours tell orientation and channel order apart.
_COLOURS = np.array([[(200, 40, 40), (40, 180, 60)], [(50, 60, 210), (230, 220, 90)]])
_LUMA = np.array([0.299, 0.587, 0.114])


def _quarters(height: int = 96, width: int = 96) -> Image.Image:
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 2 // width
    return Image.fromarray(_COLOURS[rows[:, None], columns].astype(np.uint8))


def _load(folder: Path, **settings: Any) -> ImageSet:
    arguments: dict[str, Any] = {
        "size": 32,
        "progress": False,
        "cache_dir": folder.parent / "cache",
    }
    return load_images(root=folder, **(arguments | settings))


def _centres(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours at the centres of the quarters, (2, 2, C)."""
    middle, step = image.shape[1] // 4, image.shape[1] // 2
    return image[:, middle::step, middle::step].transpose(1, 2, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "photos"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("name", "mode", "options", "tolerance"),
    [
        ("a.jpg", "RGB", {"quality": 95}, 6),
        ("a.jpeg", "RGB", {"quality": 95, "progressive": True}, 6),
        ("a.JPG", "CMYK", {"quality": 95}, 8),
        ("a.png", "RGB", {}, 0),
        ("a.png", "RGBA", {}, 0),
        ("a.png", "P", {}, 40),
        ("a.webp", "RGB", {"quality": 95}, 10),
        ("a.webp", "RGB", {"lossless": True}, 0),
        ("a.bmp", "RGB", {}, 0),
        ("a.gif", "P", {}, 40),
        ("a.tif", "RGB", {}, 0),
        ("a.tiff", "RGB", {"compression": "tiff_lzw"}, 0),
        ("a.tiff", "CMYK", {}, 2),
        ("without_suffix", "RGB", {"format": "PNG"}, 0),
        ("wrong_suffix.jpg", "RGB", {"format": "PNG"}, 0),
    ],
)
def test_coloured_files_keep_their_colours(
    folder: Path, name: str, mode: str, options: dict[str, Any], tolerance: int
) -> None:
    _quarters().convert(mode).save(folder / name, **options)
    (image,) = _load(folder).images
    assert image.dtype == np.uint8
    assert np.abs(_centres(image).astype(int) - _COLOURS).max() <= tolerance


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"])
def test_grey_files_fill_three_channels_alike_or_one(folder: Path, name: str) -> None:
    grey = _quarters().convert("L")
    grey.save(folder / name)
    expected = np.round(_COLOURS @ _LUMA)
    for channels in (1, 3):
        (image,) = _load(folder, channels=channels).images
        assert image.shape == (channels, 32, 32)
        assert np.abs(_centres(image) - expected[..., None]).max() <= 5


def test_coloured_files_turn_grey_for_one_channel(folder: Path) -> None:
    _quarters().save(folder / "a.png")
    (image,) = _load(folder, channels=1).images
    assert np.abs(_centres(image)[..., 0] - _COLOURS @ _LUMA).max() <= 1


def test_black_and_white_bits_become_0_and_255(folder: Path) -> None:
    bits = np.kron(np.eye(2, dtype=bool), np.ones((48, 48), dtype=bool))
    Image.fromarray(bits).save(folder / "a.png")
    (image,) = _load(folder).images
    assert _centres(image)[..., 0].tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize(
    ("name", "order"), [("deep.png", "<u2"), ("deep.tif", "<u2"), ("deep.tif", ">u2")]
)
def test_sixteen_bits_are_scaled_over_their_whole_range(
    folder: Path, name: str, order: str
) -> None:
    levels = np.array([[0, 65535], [257 * 100, 20000]])
    deep = np.kron(levels, np.ones((48, 48), dtype=int)).astype(order)
    Image.frombytes("I;16" if order == "<u2" else "I;16B", (96, 96), deep.tobytes()).save(
        folder / name
    )
    (image,) = _load(folder).images
    expected = np.round(levels / 65535 * 255)
    for channel in range(3):
        assert np.array_equal(_centres(image)[..., channel], expected)


def _deep_colour(path: Path, colours: NDArray[Any]) -> None:
    """Write a PNG of four colours of 16 bits, which Pillow cannot."""
    import zlib

    values = np.kron(colours, np.ones((48, 48, 1), dtype=int))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 96, 96, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bit_colour_is_scaled(folder: Path) -> None:
    _deep_colour(folder / "a.png", 257 * _COLOURS)
    (image,) = _load(folder).images
    assert np.abs(_centres(image).astype(int) - _COLOURS).max() <= 1


def _deep(most: int, path: Path, *, mode: str = "I;16", **options: Any) -> NDArray[Any]:
    """Write an image of four greys up to `most`, and return them."""
    levels = np.array([[0, most // 3], [most // 2, most]])
    values = np.kron(levels, np.ones((48, 48), dtype=int))
    dtype = "<i4" if mode == "I" else "<u2"
    Image.frombytes(mode, (96, 96), values.astype(dtype).tobytes()).save(path, **options)
    return levels


@pytest.mark.parametrize("packed", ["folder", "zip", "tar"])
@pytest.mark.parametrize(("most", "white"), [(200, 255), (1000, 1023), (4000, 4095)])
def test_white_of_many_bits_is_that_of_all_images_together(
    folder: Path, caplog: pytest.LogCaptureFixture, packed: str, most: int, white: int
) -> None:
    caplog.set_level("INFO")
    dark = _deep(most // 4, folder / "a.png")
    bright = _deep(most, folder / "b.tif", mode="I" if most < 256 else "I;16")
    root = folder
    if packed != "folder":
        root = Path(shutil.make_archive(str(folder.parent / "packed"), packed, folder))
    loaded = _load(root)
    images = {n[-5:]: _centres(i)[..., 0] for n, i in zip(loaded.names, loaded.images, strict=True)}
    assert np.array_equal(images["a.png"], np.round(dark / white * 255))
    assert np.array_equal(images["b.tif"], np.round(bright / white * 255))
    assert f"hold at most {most}, so white is taken as {white}" in caplog.text


def test_what_has_no_say_in_white_of_many_bits(folder: Path) -> None:
    """A file's own statistics, 16 bits a pixel of a BMP, and images that are refused themselves."""
    levels = _deep(4000, folder / "a.tif", tiffinfo={281: 400})
    pixels = struct.pack("<2sIHHI", b"BM", 62 + 32 * 32 * 2, 0, 0, 62)
    pixels += struct.pack("<IiiHHIIiiII", 40, 32, 32, 1, 16, 0, 0, 0, 0, 0, 0) + bytes(8)
    (folder / "b.bmp").write_bytes(pixels + b"\xff\x7f" * 32 * 32)
    _deep(100_000, folder / "c.tif", mode="I")
    loaded = _load(folder, max_bad_fraction=0.4)
    assert [one.name for one in loaded.skipped] == ["c.tif"]
    assert np.array_equal(_centres(loaded.images[0])[..., 0], np.round(levels / 4095 * 255))
    assert (loaded.images[1] == 255).all()


def test_files_of_16_and_of_32_bits_have_their_own_white(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    of_12 = _deep(4000, folder / "a.png")
    of_8 = _deep(200, folder / "b.tif", mode="I")
    Image.new("RGB", (96, 96), "red").save(folder / "c.jpg")
    images = [_centres(image)[..., 0] for image in _load(folder).images]
    assert np.array_equal(images[0], np.round(of_12 / 4095 * 255))
    assert np.array_equal(images[1], of_8)
    assert "images of 16 bits" in caplog.text
    assert "images of 32 bits" in caplog.text
    assert "nearly so" not in caplog.text


def test_a_file_that_darkens_most_others_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_SETTLED_NS", 0)  # the files have only just been written
    for number in range(5):
        _deep(4000, folder / f"{number}.png")
    _deep(65535, folder / "hot.png")
    first = _load(folder)
    told = (
        f"{folder}: 5 of 6 images of 16 bits are black or nearly so: white is taken as 65535, "
        "since hot.png holds 65535; if that is a defect, mend or remove the file"
    )
    assert caplog.text.count(told) == 1
    monkeypatch.setattr(loading, "_build", None)  # another process finds them in the cache
    monkeypatch.setattr(telling, "_told", set())
    assert _load(folder).remarks == first.remarks
    assert caplog.text.count(told) == 2


def test_a_broken_file_says_nothing_of_white(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for suffix in ("heic", "avif"):
        Image.new("RGB", (96, 96), "red").save(folder / f"a.{suffix}")
    _deep(4000, folder / "b.tif")
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:9000])
    assert [one.name for one in _load(folder, max_bad_fraction=0.5).skipped] == ["b.tif"]
    assert "white" not in caplog.text


@pytest.mark.parametrize("suffix", ["heic", "avif", "png", "tif"])
def test_what_is_cut_short_is_told_so(folder: Path, suffix: str) -> None:
    path = folder / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError) as refused:
        _load(folder)
    assert "not a JPEG" not in str(refused.value)


def test_negative_integers_are_told_so(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), -3, np.int32)).save(folder / "a.tif")
    with pytest.raises(UserError, match="integers from -3 to -3, of unknown range"):
        _load(folder)


def test_colour_of_14_bits_is_scaled(folder: Path) -> None:
    _deep_colour(folder / "a.png", 64 * _COLOURS)
    (image,) = _load(folder).images
    assert np.abs(_centres(image).astype(int) - _COLOURS).max() <= 6


def test_what_is_refused_does_not_wait_for_the_search_for_white(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = b"\x89PNG\r\n\x1a\n"
    (folder / "a.png").write_bytes(head + b"bomb")
    _deep(4000, folder / "b.tif")
    for i in range(200):
        (folder / f"c{i:03}.png").write_bytes(head)
    looked: list[int] = []

    def slow(data: bytes, bits: int) -> int:
        looked.append(len(data))
        time.sleep(0.02)
        return 0

    def bombed(data: bytes, **options: Any) -> NDArray[np.uint8]:
        if data.endswith(b"bomb"):
            time.sleep(0.2)
            raise UserError("of a test")
        return decode(data, **options)

    monkeypatch.setattr("experiments.data.sources.source.largest_value", slow)
    monkeypatch.setattr("experiments.data.sources.source.decode", bombed)
    with pytest.raises(UserError, match="of a test"):
        list(open_source(folder).decoded(size=8, channels=3, fit="crop", workers=2))
    assert 0 < len(looked) < 100


def test_deep_colour_of_which_next_to_nothing_is_read_is_refused(folder: Path) -> None:
    _deep_colour(folder / "a.png", 16 * _COLOURS)
    with pytest.raises(UserError, match=r"16-bit colour that holds 12 bits, .* scale its values"):
        _load(folder)


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_photos_of_phones_are_read(folder: Path, suffix: str) -> None:
    picture = Image.fromarray(np.kron(_COLOURS, np.ones((48, 48, 1))).astype(np.uint8))
    picture.save(folder / f"a.{suffix}", quality=95)
    (image,) = _load(folder).images
    assert np.abs(_centres(image).astype(int) - _COLOURS).max() < 12


@pytest.mark.parametrize(
    ("factor", "offset", "told"),
    [
        (255, 0, "from 0 to 255, but those in [0, 1] are read; divide them by 255"),
        (300, 0, "from 0 to 300, but those in [0, 1] are read"),
        (1, np.nan, "that are NaN or infinite; replace them"),
    ],
)
def test_floating_point_tiffs_hold_0_to_1(
    folder: Path, factor: float, offset: float, told: str
) -> None:
    values = np.kron(np.array([[0, 1], [0.5, 0.25]]), np.ones((48, 48))).astype(np.float32)
    Image.fromarray(values).save(folder / "a.tif")
    (image,) = _load(folder).images
    assert _centres(image)[..., 0].tolist() == [[0, 255], [128, 64]]
    others = values * np.float32(factor)
    others[5, 5] += np.float32(offset)
    Image.fromarray(others).save(folder / "b.tif")
    loaded = _load(folder, max_bad_fraction=0.5)
    assert [s.reason for s in loaded.skipped] == [f"floating-point pixels {told}"]


def test_what_is_transparent_shows_white(folder: Path) -> None:
    alpha = Image.fromarray(np.kron([[255, 0], [128, 255]], np.ones((48, 48))).astype(np.uint8))
    colour = _quarters()
    colour.putalpha(alpha)
    colour.save(folder / "rgba.png")
    colour.save(folder / "rgba.webp", lossless=True)
    colour.convert("LA").save(folder / "la.png")
    palette = _quarters().quantize(4)
    index = palette.getpixel((90, 10))
    palette.save(folder / "palette.png", transparency=index)
    palette.save(folder / "palette.gif", transparency=index)
    loaded = _load(folder)
    for name, image in zip(loaded.names, loaded.images, strict=True):
        centres = _centres(image).astype(int)
        assert centres[0, 1].tolist() == [255, 255, 255], name
        if name.startswith("rgba"):
            half = 255 + (_COLOURS[1, 0] - 255) * 128 / 255
            assert np.abs(centres[1, 0] - half).max() <= 1, name
            assert np.abs(centres[1, 1] - _COLOURS[1, 1]).max() <= 1, name


def test_of_an_animation_the_first_frame_counts(folder: Path) -> None:
    first, second = _quarters(), Image.new("RGB", (96, 96), (255, 255, 255))
    for name in ("a.gif", "a.webp", "a.png"):
        first.save(folder / name, save_all=True, append_images=[second], duration=100)
    for image in _load(folder).images:
        assert np.abs(_centres(image).astype(int) - _COLOURS).max() <= 40


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_rotation_is_undone(folder: Path, orientation: int, suffix: str) -> None:
    upright = _quarters(96, 64)
    # How a camera stores an upright picture under each orientation, from the EXIF standard.
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](np.asarray(upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(folder / f"a.{suffix}", exif=exif)
    (image,) = _load(folder).images
    assert np.abs(_centres(image).astype(int) - _COLOURS).max() <= 40


def test_broken_exif_does_no_harm(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _quarters().save(folder / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(_load(folder).images) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shape", [(120, 200), (200, 120)])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_fits_agree_with_scikit_image(folder: Path, shape: tuple[int, int], fit: str) -> None:
    rng = np.random.default_rng(0)
    smooth = resize(rng.random((shape[0] // 30, shape[1] // 30, 3)), (*shape, 3), order=3)
    smooth = smooth.clip(0, 1)
    picture = np.round(smooth * 255).astype(np.uint8)
    Image.fromarray(picture).save(folder / "a.png")
    (image,) = _load(folder, fit=fit).images
    wide = shape[1] > shape[0]
    if fit == "crop":
        picture = picture[:, 40:160] if wide else picture[40:160]
    inner = (19, 32) if wide else (32, 19)
    target = inner if fit == "pad" else (32, 32)
    expected = resize(picture / 255, (*target, 3), order=3, anti_aliasing=True)
    if fit == "pad":
        frame = np.zeros((32, 32, 3))
        top, left = (32 - target[0]) // 2, (32 - target[1]) // 2
        frame[top : top + target[0], left : left + target[1]] = expected
        expected = frame
    assert np.abs(image.transpose(1, 2, 0) / 255 - expected).mean() < 0.01


def test_an_image_of_the_wanted_size_is_not_resampled(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    for fit in ("crop", "pad", "squash"):
        (image,) = _load(folder, fit=fit).images
        assert np.array_equal(image.transpose(1, 2, 0), pixels)


def test_small_and_very_long_images_are_brought_to_size(folder: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(folder / "dot.png")
    Image.new("RGB", (3000, 2), (10, 20, 30)).save(folder / "line.png")
    for fit in ("crop", "pad", "squash"):
        loaded = _load(folder, fit=fit)
        assert loaded.images.shape == (2, 3, 32, 32)
        brightest = loaded.images[:, :, 15:17, 16].max(axis=2).astype(int)  # the line is one pixel
        assert np.abs(brightest - (10, 20, 30)).max() <= 1


@pytest.mark.slow
def test_a_large_jpeg_decoded_in_draft_is_nearly_the_same(folder: Path) -> None:
    rng = np.random.default_rng(0)
    large = resize(rng.random((10, 15, 3)), (1600, 2400, 3), order=1)
    Image.fromarray(np.round(large * 255).astype(np.uint8)).save(folder / "a.jpg", quality=95)
    (image,) = _load(folder).images
    expected = resize(large[:, 400:2000], (32, 32, 3), order=3, anti_aliasing=True)
    assert np.abs(image.transpose(1, 2, 0) / 255 - expected).mean() < 0.012


@pytest.mark.parametrize(
    ("fmt", "mode"),
    [("JPEG", "RGB"), ("PNG", "P"), ("WEBP", "RGB"), ("BMP", "RGB"), ("GIF", "P"), ("TIFF", "RGB")],
)
def test_damaged_bytes_give_an_image_or_a_reason_and_nothing_on_stderr(
    fmt: str, mode: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"compression": "tiff_lzw"} if fmt == "TIFF" else {}
    _quarters(40, 40).convert(mode).save(buffer, fmt, exif=exif, **options)
    whole = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    with quiet():
        for _ in range(150):
            damaged = whole.copy()
            at = rng.integers(0, len(whole), rng.integers(1, 6))
            damaged[at] = rng.integers(0, 256, len(at))
            if rng.random() < 0.3:
                damaged = damaged[: rng.integers(0, len(damaged))]
            reason = ""
            try:
                image = decode(damaged.tobytes(), size=16, channels=3, fit="crop")
            except BadImageError as error:
                image, reason = None, str(error)
            assert reason if image is None else image.shape == (3, 16, 16)
    assert capfd.readouterr().err == ""


def test_a_fresh_process_knows_every_format(folder: Path) -> None:
    for suffix in ("png", "webp", "bmp", "gif", "tif", "jpg", "heic", "avif"):
        _quarters().save(folder / f"a.{suffix}")
    code = (
        "import sys; from experiments.data import load_images; "
        "print(len(load_images(root=sys.argv[1], cache_dir=sys.argv[2], size=8).images))"
    )
    command = [sys.executable, "-c", code, str(folder), str(folder.parent / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "8\n"
    assert done.stderr == "decoding images (8)\n"


def test_images_of_8_bits_keep_the_fingerprint_that_records_of_before_have(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that no change of what is read may change, or no old record could be scored."""
    (folder / "a.bmp").write_bytes(b"BM" + bytes(12) + struct.pack("<I", 40) + b"broken")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "b.bmp")
    loaded = _load(folder, max_bad_fraction=0.5)
    assert loaded.fingerprint == "4a065371ed683d7594a85606fea73223"


def test_images_of_other_white_have_another_fingerprint_also_when_touched(folder: Path) -> None:
    _deep(4000, folder / "a.png")
    first = _load(folder)
    assert _load(folder).fingerprint == first.fingerprint
    os.utime(folder / "a.png", (1, 1))
    assert _load(folder).fingerprint == first.fingerprint
    _deep(65535, folder / "b.png")
    assert _load(folder).images[0].max() < first.images[0].max()
