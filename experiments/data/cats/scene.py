"""Everything behind the face: the background, the shoulders, a collar or a bow."""

from __future__ import annotations

import numpy as np

from experiments.data.cats.canvas import Canvas
from experiments.data.cats.factors import ACCESSORIES, BACKGROUNDS
from experiments.data.cats.shapes import Array, ellipse, smoothstep

_GOLD = np.array((0.93, 0.76, 0.32), dtype=np.float32).reshape(1, 3, 1, 1)


def background(canvas: Canvas) -> None:
    """Two colours, mixed by one of `BACKGROUNDS`."""
    f, x, y = canvas.factors, canvas.x, canvas.y
    angle = f["background_angle"]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    ramp = 0.5 + 0.38 * along
    pixel = 2 / canvas.size
    radius = np.hypot(x - 0.25 * np.cos(angle), y + 0.15)
    floor = 0.32 + 0.2 * np.sin(angle)
    waves = {
        "gradient": ramp,
        "glow": 1 - smoothstep(0.1, 1.5, radius),
        "disc": 0.9 * np.clip(0.5 - (radius - 0.85) / pixel, 0, 1) + 0.05,
        "stripes": 0.25 + 0.5 * _band(along, 0.38, pixel),
        "dots": 0.2 + 0.6 * _dots(along, across, 0.42, pixel),
        "floor": np.where(y < floor, 0.12 + 0.12 * y, 0.95 - 0.3 * (y - floor)) + 0 * x,
    }
    mix = np.zeros_like(canvas.u)
    for index, name in enumerate(BACKGROUNDS):
        chosen = f["background"] == index
        mix += np.where(chosen, waves[name], 0)
    canvas.rgb[:] = f["background_first"]
    canvas.paint(mix, f["background_second"])


def body(canvas: Canvas, fur: Array) -> None:
    """The shoulders, in the fur of `fur`."""
    f = canvas.factors
    distance = ellipse(canvas.u + 0.4 * f["yaw"], canvas.v - 1.85, 1.05 * f["jowls"], 1.2)
    # Darker under the chin than where light falls on the shoulders.
    shade = 0.62 + 0.26 * smoothstep(0.75, 1.7, canvas.v)
    canvas.paint(canvas.cover(distance), fur * shade[:, None])


def accessory(canvas: Canvas) -> None:
    """Nothing, a collar with a bell, or a bow."""
    f = canvas.factors
    worn = f["accessory"]
    if not worn.any():
        return
    with canvas.window(-0.3 * f["yaw"], 1.08, 0.85) as part:
        u, v = part.u + 0.3 * f["yaw"], part.v - 1.06
        arc = v + 0.34 * u * u
        collar = np.maximum(np.abs(arc) - 0.075, np.abs(u) - 0.70 * f["jowls"])
        worn_any = (worn > 0).astype(np.float32)
        part.paint(part.cover(collar), f["accent"] * (0.92 - 1.6 * arc)[:, None], worn_any)
        bell = ellipse(u, v - 0.14, 0.13, 0.13)
        ring = (worn == ACCESSORIES.index("collar")).astype(np.float32)
        part.paint(part.cover(bell - 0.025), _GOLD * 0.55, ring)
        part.paint(part.cover(bell), _GOLD * (1.05 - 1.2 * v)[:, None], ring)
        slot = np.maximum(np.abs(v - 0.18) - 0.018, np.abs(u) - 0.09)
        part.paint(part.cover(slot), _GOLD * 0.4, ring)
        bow = (worn == ACCESSORIES.index("bow")).astype(np.float32)
        side = np.abs(u)
        loops = np.maximum(np.abs(v - 0.08) - 0.05 - 0.42 * side, side - 0.42)
        part.paint(part.cover(loops - 0.03), f["accent"] * 0.6, bow)
        part.paint(part.cover(loops), f["accent"] * (0.85 + 0.5 * side)[:, None], bow)
        knot = ellipse(u, v - 0.08, 0.1, 0.1)
        part.paint(part.cover(knot - 0.025), f["accent"] * 0.55, bow)
        part.paint(part.cover(knot), f["accent"], bow)


def _band(position: Array, period: float, pixel: float) -> Array:
    """Stripes: 0 and 1 in turn, anti-aliased."""
    distance = np.abs(_fraction(position / period) - 0.5) - 0.25
    stripes: Array = np.clip(0.5 - distance * period / pixel, 0, 1)
    return stripes


def _dots(along: Array, across: Array, period: float, pixel: float) -> Array:
    p = _fraction(along / period) - 0.5
    q = _fraction(across / period) - 0.5
    dots: Array = np.clip(0.5 - (np.hypot(p, q) - 0.24) * period / pixel, 0, 1)
    return dots


def _fraction(value: Array) -> Array:
    return value - np.floor(value)  # several times as fast as % 1
