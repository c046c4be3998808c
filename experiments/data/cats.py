"""The embedded data set: drawn cat faces, a function of seed, index and size alone.

Every face is drawn from a few factors (`draw_factors`) that are kept beside the images, so that
an analysis can ask which latent unit follows which factor. Shapes are signed distances in the
face's own coordinates, turned into coverage over one pixel, which anti-aliases at any size.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Factors = dict[str, NDArray[np.float32]]

VERSION = 1
"""Raised when the same seed draws other images."""

CHUNK = 128
"""Images drawn at once; the random numbers of a chunk do not depend on how many are wanted."""

COATS = ("solid", "tabby", "tuxedo", "calico", "pointed")

# Coat colours, sRGB: black, grey, blue-grey, brown, ginger, cream, white.
_FURS = np.array(
    [
        (52, 47, 50), (112, 108, 110), (122, 132, 146), (128, 92, 64),
        (214, 138, 66), (232, 202, 162), (240, 236, 230),
    ],
    dtype=np.float32,
) / 255  # fmt: skip
_EYES = np.array(
    [(110, 178, 84), (222, 186, 62), (206, 126, 46), (92, 158, 216), (98, 200, 178)],
    dtype=np.float32,
) / 255  # fmt: skip
_WHITE = np.array((0.97, 0.96, 0.94), dtype=np.float32)
_PINK = np.array((0.93, 0.66, 0.66), dtype=np.float32)
_DARK = np.array((0.13, 0.11, 0.12), dtype=np.float32)


def draw_cats(count: int, *, seed: int, size: int) -> tuple[NDArray[np.uint8], Factors]:
    """Draw `count` RGB faces of `size` pixels a side.

    Returns:
        Images (count, 3, size, size), uint8, and the factors, each (count, ...), float32.
    """

    def draw(start: int) -> tuple[NDArray[np.uint8], Factors]:
        drawn = draw_factors(seed, start // CHUNK)
        factors = {name: values[: count - start] for name, values in drawn.items()}
        return render(factors, size), factors

    # NumPy lets go of the interpreter in its loops, so threads draw at the same time.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chunks = list(pool.map(draw, range(0, count, CHUNK)))
    images = np.concatenate([images for images, _ in chunks])
    names = chunks[0][1]
    return images, {name: np.concatenate([f[name] for _, f in chunks]) for name in names}


def draw_factors(seed: int, chunk: int) -> Factors:
    """The factors of the `CHUNK` faces of a chunk, each (CHUNK,) or, for colours, (CHUNK, 3).

    Lengths are in half the side of the image, angles in radians, colours in sRGB [0, 1];
    `coat` indexes `COATS`.
    """
    rng = np.random.default_rng([seed, chunk])

    def uniform(low: float, high: float) -> NDArray[np.float64]:
        return rng.uniform(low, high, CHUNK)

    def tinted(palette: Array, amount: float) -> NDArray[np.float64]:
        chosen = palette[rng.integers(len(palette), size=CHUNK)]
        return np.clip(chosen + rng.normal(0, amount, (CHUNK, 3)), 0, 1)

    factors = {
        "x": uniform(-0.12, 0.12),
        "y": uniform(-0.04, 0.14),
        "scale": uniform(0.56, 0.72),
        "roll": rng.normal(0, 0.14, CHUNK).clip(-0.4, 0.4),
        "yaw": uniform(-0.22, 0.22),
        "roundness": uniform(0.86, 1.08),
        "ear_height": uniform(0.42, 0.78),
        "ear_width": uniform(0.30, 0.42),
        "ear_spread": uniform(0.0, 0.30),
        "eye_size": uniform(0.17, 0.25),
        "eye_spacing": uniform(0.36, 0.46),
        "eye_openness": uniform(0.62, 1.05),
        "pupil": uniform(0.16, 0.62),
        "gaze": uniform(-0.35, 0.35),
        "muzzle": uniform(0.24, 0.34),
        "whiskers": uniform(0.5, 0.95),
        "light": uniform(-1.0, 1.0),
        "coat": rng.integers(len(COATS), size=CHUNK),
        "marking": uniform(0.0, 1.0),
        "phase": uniform(0.0, 2 * np.pi),
        "fur": tinted(_FURS, 0.035),
        "second_fur": tinted(_FURS, 0.035),
        "eye": tinted(_EYES, 0.04),
        "background": rng.uniform(0.12, 0.88, (CHUNK, 3)),
        "background_low": rng.uniform(0.12, 0.88, (CHUNK, 3)),
        "background_angle": uniform(0.0, 2 * np.pi),
    }
    return {name: values.astype(np.float32) for name, values in factors.items()}


def render(factors: Factors, size: int) -> NDArray[np.uint8]:
    """Draw the faces of `factors`, (n, 3, size, size), uint8."""
    canvas = _Canvas(factors, size)
    _background(canvas)
    fur, dark = _fur(canvas)
    _body(canvas, fur)
    _ears(canvas, fur, dark)
    _head(canvas, fur)
    _muzzle(canvas)
    _eyes(canvas)
    _whiskers(canvas)
    return canvas.pixels()


class _Canvas:
    """RGB images in the making, with coordinates (u right, v down) fixed to each face."""

    def __init__(self, factors: Factors, size: int) -> None:
        self.factors = {
            name: values[:, None, None] if values.ndim == 1 else values[:, None, None, :]
            for name, values in factors.items()
        }
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        self.x, self.y = axis[None, None, :], axis[None, :, None]
        f = self.factors
        cos, sin = np.cos(f["roll"]), np.sin(f["roll"])
        dx, dy = self.x - f["x"], self.y - f["y"]
        self.u: Array = (cos * dx + sin * dy) / f["scale"]
        self.v: Array = (cos * dy - sin * dx) / f["scale"]
        # Features lie in front of the head: a turn moves them further than its outline.
        self.fu: Array = self.u - f["yaw"]
        self.pixel = 2 / size / f["scale"]
        self.rgb: Array = np.zeros((len(self.u), size, size, 3), dtype=np.float32)

    def cover(self, distance: Array) -> Array:
        """How much of each pixel lies inside, from its signed distance to the outline."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def paint(self, coverage: Array, colour: Array, opacity: float | Array = 1.0) -> None:
        alpha = (coverage * opacity)[..., None]
        self.rgb += alpha * (colour - self.rgb)

    def pixels(self) -> NDArray[np.uint8]:
        shade = 1 + 0.10 * self.factors["light"] * self.x - 0.06 * self.y
        rgb = np.clip(self.rgb * shade[..., None], 0, 1)
        return np.round(rgb.transpose(0, 3, 1, 2) * 255).astype(np.uint8)


def _background(canvas: _Canvas) -> None:
    f = canvas.factors
    along = canvas.x * np.cos(f["background_angle"]) + canvas.y * np.sin(f["background_angle"])
    mix = (0.5 + 0.4 * along)[..., None]
    canvas.rgb[:] = f["background_low"] + mix * (f["background"] - f["background_low"])


def _fur(canvas: _Canvas) -> tuple[Array, Array]:
    """Colour of the fur at every pixel, (n, size, size, 3), and of the ears, (n, 1, 1, 3)."""
    f, u, v = canvas.factors, canvas.u, canvas.v
    base = np.broadcast_to(f["fur"], canvas.rgb.shape).copy()
    darker = f["fur"] * 0.55
    coat = f["coat"]

    bend = v + 0.25 * np.abs(u) ** 1.5
    stripes = np.sin(9.0 * np.abs(u) + 3.5 * bend + f["phase"]) * np.clip(0.35 - v, 0, 1) * 1.6
    cheeks = np.sin(11.0 * v + f["phase"]) * np.clip(np.abs(u) - 0.45, 0, 1) * 2.2
    tabby = np.clip(np.maximum(stripes, cheeks) * 1.5, 0, 0.85)

    wave = np.sin(2.6 * u + f["phase"]) + np.sin(2.9 * v + 1.7 * f["phase"])
    patches = canvas.cover(0.35 * (0.5 - f["marking"] - wave))

    width = 0.10 + 0.22 * f["marking"] + 0.65 * np.clip(v + 0.15, 0, None)
    blaze = canvas.cover((np.abs(canvas.fu) - width) * 0.8)

    mask = np.exp(-((canvas.fu / 0.5) ** 2) - ((v - 0.22) / 0.5) ** 2)

    for name, amount, colour in (
        ("tabby", tabby, darker),
        ("calico", patches, f["second_fur"]),
        ("tuxedo", blaze, _WHITE),
        ("pointed", mask, f["fur"] * 0.4),
    ):
        chosen = (coat == COATS.index(name)) * amount
        base += chosen[..., None] * (colour - base)
    points = np.where((coat == COATS.index("pointed"))[..., None], f["fur"] * 0.4, f["fur"] * 0.92)
    return base.astype(np.float32), points.astype(np.float32)


def _body(canvas: _Canvas, fur: Array) -> None:
    f = canvas.factors
    coverage = canvas.cover(_ellipse(canvas.u + 0.4 * f["yaw"], canvas.v - 1.75, 1.15, 1.1))
    canvas.paint(coverage, fur * 0.82)


def _ears(canvas: _Canvas, fur: Array, points: Array) -> None:
    f = canvas.factors
    for side in (-1.0, 1.0):
        u = side * (canvas.u - 0.35 * f["yaw"])
        tip_u = 0.52 + f["ear_spread"]
        tip_v = -0.55 - f["ear_height"]
        inner, outer = 0.50 - f["ear_width"], 0.52 + f["ear_width"]
        ear = _triangle(u, canvas.v, (inner, -0.55), (tip_u, tip_v), (outer, -0.20)) - 0.05
        canvas.paint(canvas.cover(ear), 0.5 * (points + fur))
        canvas.paint(canvas.cover(ear + 0.15), _PINK * 0.55 + points * 0.35)


def _head(canvas: _Canvas, fur: Array) -> None:
    f, u, v = canvas.factors, canvas.u, canvas.v
    skull = _ellipse(u, v, 0.95 * f["roundness"], 0.86)
    jowls = _ellipse(u, v - 0.30, 1.02 * f["roundness"], 0.56)
    head = _smooth_union(skull, jowls, 0.25)
    canvas.paint(canvas.cover(head - 0.035), fur * 0.72)
    canvas.paint(canvas.cover(head), fur)


def _muzzle(canvas: _Canvas) -> None:
    f, u, v = canvas.factors, canvas.fu, canvas.v
    light = 0.45 * f["fur"] + 0.55 * _WHITE
    pads = _ellipse(np.abs(u) - 0.7 * f["muzzle"], v - 0.44, f["muzzle"], 0.8 * f["muzzle"])
    chin = _ellipse(u, v - 0.66, 0.75 * f["muzzle"], 0.16)
    canvas.paint(canvas.cover(_smooth_union(pads, chin, 0.1)), light, 0.9)
    nose = _triangle(np.abs(u), v, (-0.2, 0.20), (0.13, 0.20), (0.0, 0.32)) - 0.025
    canvas.paint(canvas.cover(nose), 0.6 * _PINK + 0.4 * f["fur"] * 0.6)
    mouth = np.abs(_ellipse(np.abs(u) - 0.13, v - 0.40, 0.13, 0.12)) - 0.018
    canvas.paint(canvas.cover(np.maximum(mouth, 0.42 - v)), _DARK, 0.7)


def _eyes(canvas: _Canvas) -> None:
    f, v = canvas.factors, canvas.v + 0.12
    for side in (-1.0, 1.0):
        # The far eye of a turned head is foreshortened.
        narrow = 1 - 0.6 * np.clip(side * f["yaw"], 0, None)
        u = (canvas.fu - side * f["eye_spacing"]) / narrow
        slanted = v + 0.22 * side * u
        eye = _ellipse(u, slanted, f["eye_size"], f["eye_size"] * f["eye_openness"])
        canvas.paint(canvas.cover(eye - 0.05), _DARK)
        inside = canvas.cover(eye)
        rim = np.clip(1.15 + 2.0 * eye / f["eye_size"], 0.55, 1)[..., None]
        canvas.paint(inside, f["eye"] * (1.45 - 0.6 * rim))
        gaze = u - f["gaze"] * f["eye_size"] * 0.5
        pupil = _ellipse(gaze, slanted, f["eye_size"] * f["pupil"], f["eye_size"] * 0.82)
        canvas.paint(canvas.cover(pupil) * inside, _DARK)
        glint = _ellipse(gaze - 0.06, slanted + 0.075, f["eye_size"] * 0.2, f["eye_size"] * 0.2)
        canvas.paint(canvas.cover(glint) * inside, _WHITE)


def _whiskers(canvas: _Canvas) -> None:
    f, v = canvas.factors, canvas.v
    for side in (-1.0, 1.0):
        u = side * canvas.fu
        for rise in (-0.16, 0.0, 0.16):
            start, stop = (0.24, 0.44 + 0.3 * rise), (0.34 + f["whiskers"], 0.42 + 1.5 * rise)
            canvas.paint(canvas.cover(_segment(u, v, start, stop) - 0.008), _WHITE, 0.75)


def _ellipse(u: Array, v: Array, a: float | Array, b: float | Array) -> Array:
    """Distance to an axis-parallel ellipse at the origin, first order in the distance."""
    value = (u / a) ** 2 + (v / b) ** 2
    slope = 2 * np.sqrt((u / np.square(a)) ** 2 + (v / np.square(b)) ** 2)
    distance: Array = (value - 1) / np.maximum(slope, 1e-3)
    return distance


Point = tuple[float | Array, float | Array]


def _triangle(u: Array, v: Array, a: Point, b: Point, c: Point) -> Array:
    """Distance to a triangle's edges' lines: exact but around its corners."""
    corners = (a, b, c)
    middle_u = sum(corner[0] for corner in corners) / 3
    middle_v = sum(corner[1] for corner in corners) / 3
    distance: Array | None = None
    for (pu, pv), (qu, qv) in zip(corners, (b, c, a), strict=True):
        nu, nv = qv - pv, pu - qu
        length = np.sqrt(np.square(nu) + np.square(nv))
        outward = np.where((middle_u - pu) * nu + (middle_v - pv) * nv > 0, -1.0, 1.0)
        edge = outward * ((u - pu) * nu + (v - pv) * nv) / length
        distance = edge if distance is None else np.maximum(distance, edge)
    assert distance is not None
    return distance


def _segment(u: Array, v: Array, start: Point, stop: Point) -> Array:
    """Distance to a line segment."""
    du, dv = stop[0] - start[0], stop[1] - start[1]
    along = ((u - start[0]) * du + (v - start[1]) * dv) / (np.square(du) + np.square(dv))
    along = np.clip(along, 0, 1)
    distance: Array = np.hypot(u - start[0] - along * du, v - start[1] - along * dv)
    return distance


def _smooth_union(first: Array, second: Array, radius: float) -> Array:
    """The smaller of two distances, blended where they are within `radius` of each other."""
    blend = np.clip(0.5 + 0.5 * (second - first) / radius, 0, 1)
    union: Array = second + blend * (first - second) - radius * blend * (1 - blend)
    return union
