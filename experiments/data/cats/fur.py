"""The colour of the fur at every pixel of the head and of the body."""

from __future__ import annotations

import numpy as np

from experiments.data.cats.canvas import Canvas
from experiments.data.cats.factors import COATS
from experiments.data.cats.shapes import Array, smoothstep

WHITE = np.array((0.965, 0.955, 0.94), dtype=np.float32).reshape(1, 3, 1, 1)
DARK = np.array((0.12, 0.10, 0.11), dtype=np.float32).reshape(1, 3, 1, 1)
PINK = np.array((0.92, 0.62, 0.62), dtype=np.float32).reshape(1, 3, 1, 1)


def is_coat(canvas: Canvas, *names: str) -> Array:
    """1 for the faces with one of these coats, else 0, (n, 1, 1)."""
    indices = [COATS.index(name) for name in names]
    return np.isin(canvas.factors["coat"], indices).astype(np.float32)


def head_fur(canvas: Canvas) -> Array:
    """(n, 3, height, width)."""
    f, v = canvas.factors, canvas.v
    u = canvas.u - 0.7 * f["yaw"]  # markings turn with the head
    fur = np.broadcast_to(f["fur"], canvas.rgb.shape).copy()

    def lay(amount: Array, colour: Array) -> None:
        layer = colour - fur
        layer *= amount[:, None]
        np.add(fur, layer, out=fur)

    lay(is_coat(canvas, "tabby") * _tabby(canvas, u), f["second_fur"])
    first, second = _patches(canvas, u, v)
    patched = is_coat(canvas, "calico", "tortoiseshell")
    lay(patched * first, f["second_fur"])
    lay(is_coat(canvas, "calico") * second, np.float32(0.32) * f["second_fur"])
    lay(is_coat(canvas, "tuxedo", "calico") * _blaze(canvas, u), WHITE)
    cap = canvas.cover(v + 0.08 + 0.55 * f["marking"] * (0.55 - np.abs(u)) - 0.25 * np.abs(u), 0.05)
    parting = canvas.cover(0.08 + 0.1 * f["marking"] - np.abs(u) - 0.25 * v, 0.04)
    lay(is_coat(canvas, "cap") * cap * parting, f["second_fur"])
    mask = np.exp(-((u / 0.46) ** 2) - ((v - 0.3) / (0.42 + 0.25 * f["marking"])) ** 2)
    lay(is_coat(canvas, "pointed") * np.clip(1.25 * mask, 0, 0.95), f["second_fur"])
    return fur


def body_fur(canvas: Canvas) -> Array:
    """(n, 3, height, width)."""
    f, u, v = canvas.factors, canvas.u, canvas.v
    fur = np.broadcast_to(f["fur"], canvas.rgb.shape).copy()

    def lay(amount: Array, colour: Array) -> None:
        layer = colour - fur
        layer *= amount[:, None]
        np.add(fur, layer, out=fur)

    rings = smoothstep(0.1, 0.7, np.sin(9 * v + 2.0 * np.abs(u) + f["phase"]))
    lay(is_coat(canvas, "tabby") * rings * smoothstep(0.25, 0.6, np.abs(u)), f["second_fur"])
    first, _ = _patches(canvas, u, v)
    lay(is_coat(canvas, "calico", "tortoiseshell") * first, f["second_fur"])
    bib = canvas.cover(np.abs(u + 0.3 * f["yaw"]) - 0.5 - 0.25 * f["marking"] + 0.15 * v, 0.08)
    lay(is_coat(canvas, "tuxedo", "calico") * bib, WHITE)
    return fur


def ear_fur(canvas: Canvas) -> Array:
    """Colour of the ears, (n, 3, 1, 1): the second colour where the coat has dark points."""
    f = canvas.factors
    points = is_coat(canvas, "pointed", "cap")[:, None]
    return f["fur"] + points * (f["second_fur"] - f["fur"])


def _tabby(canvas: Canvas, u: Array) -> Array:
    """Stripes: an M on the forehead and lines over the cheeks."""
    f, v = canvas.factors, canvas.v
    side = np.abs(u)
    crown = np.sin(13.0 * side * (1.0 + 0.25 * v) - 1.2 + 0.8 * np.sin(f["phase"]))
    crown = smoothstep(0.1, 0.75, crown) * smoothstep(0.12, 0.36, -v - 0.1 * side)
    crown *= 1 - smoothstep(0.42, 0.62, side)
    lines = np.sin(12.0 * (v - 0.35 * side) + f["phase"])
    lines = smoothstep(0.2, 0.8, lines) * smoothstep(0.5, 0.72, side)
    stripes: Array = np.maximum(crown, lines) * (0.6 + 0.4 * f["marking"])
    return stripes


def _patches(canvas: Canvas, u: Array, v: Array) -> tuple[Array, Array]:
    """Two kinds of blotches that differ from face to face."""
    f = canvas.factors
    phase = f["phase"]
    wave = np.sin(2.7 * u + phase) + np.sin(2.3 * v + 1.7 * phase + 0.9 * u)
    other = np.sin(2.4 * u - 1.3 * phase + 2.0) + np.sin(2.8 * v + 0.6 * phase - 0.8 * u)
    first = canvas.cover(0.3 * (0.75 - 0.9 * f["marking"] - wave), 0.03)
    second = canvas.cover(0.3 * (0.95 - 0.6 * f["marking"] - other), 0.03)
    return first, second


def _blaze(canvas: Canvas, u: Array) -> Array:
    """White from the forehead, widening over the muzzle to the chin."""
    f, v = canvas.factors, canvas.v
    width = 0.02 + 0.14 * f["marking"] + 0.16 * smoothstep(-0.3, 0.1, v)
    width = width + 0.5 * smoothstep(0.05, 0.75, v)
    top = -0.75 + 0.75 * (1 - f["marking"])
    return canvas.cover(np.maximum(np.abs(u) - width, (top - v) * 0.6), 0.04)
