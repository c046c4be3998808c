"""The head and what is on it: ears, eyes, muzzle, nose, mouth, whiskers."""

from __future__ import annotations

import numpy as np

from experiments.data.cats.canvas import Canvas
from experiments.data.cats.fur import DARK, PINK, WHITE, ear_fur, head_fur, is_coat
from experiments.data.cats.shapes import Array, ellipse, smoothstep, stroke, union, wedge

_TONGUE = np.array((0.93, 0.48, 0.52), dtype=np.float32).reshape(1, 3, 1, 1)
_SIDES = (-1.0, 1.0)


def ears(canvas: Canvas) -> None:
    """Two ears, behind the head."""
    f = canvas.factors
    fur = ear_fur(canvas)
    luma = fur.mean(axis=1, keepdims=True)
    inner_colour = PINK * (0.45 + 0.5 * luma) + 0.12 * fur
    lean = f["ear_lean"]
    cos, sin = np.cos(lean), np.sin(lean)
    for side in _SIDES:
        base_u = 0.47 * f["width"]
        centre = side * (base_u + 0.4 * sin) - 0.25 * f["yaw"]
        with canvas.window(centre, -0.5 - 0.35 * f["ear_height"], 0.85) as part:
            u = side * (part.u + 0.25 * f["yaw"]) - base_u
            v = part.v + 0.36
            along, across = u * sin - v * cos, u * cos + v * sin
            outer = wedge(along, across, f["ear_height"], f["ear_width"], f["ear_roundness"])
            part.paint(part.cover(outer - 0.05), fur * (0.96 - 0.1 * side * f["light"])[:, None])
            inner = wedge(
                along - 0.05,
                across,
                0.78 * f["ear_height"],
                0.62 * f["ear_width"],
                f["ear_roundness"],
            )
            depth = 0.72 + 0.35 * np.clip(along, 0, 1)
            part.paint(part.cover(inner, 0.03), inner_colour * depth[:, None])
            tuft = ellipse(across + 0.24 * f["ear_width"], along - 0.24, 0.1, 0.3)
            part.paint(part.cover(tuft, 0.08), fur + 0.35 * (WHITE - fur), 0.8)


def head(canvas: Canvas) -> None:
    """The head in its fur, shaded as a ball lit from above."""
    f, u, v = canvas.factors, canvas.u, canvas.v
    skull = ellipse(u, v + 0.06, 0.90 * f["width"], 0.80)
    jowls = ellipse(u, v - 0.28, 0.98 * f["jowls"], 0.54)
    outline = union(skull, jowls, 0.3)
    # Tufts stand out at the cheeks.
    cheek = smoothstep(0.55, 0.85, np.abs(u)) * smoothstep(-0.05, 0.3, v)
    outline -= f["fluff"] * cheek * (1 + np.sin(17 * v - 6 * np.abs(u)))
    fur = head_fur(canvas)
    rim = smoothstep(-0.34, 0.02, outline)
    ball = 1.05 - 0.10 * v + 0.10 * f["light"] * u - 0.22 * rim
    fur *= ball[:, None]
    canvas.paint(canvas.cover(outline - 0.012), f["fur"] * 0.5)
    canvas.paint(canvas.cover(outline + 0.012), fur)


def muzzle(canvas: Canvas) -> None:
    """Two pads and a chin, with nose, mouth and sometimes a tongue."""
    f = canvas.factors
    with canvas.window(f["yaw"], 0.42 + f["pitch"], 0.66) as part:
        u, v = part.u - f["yaw"], part.v - f["pitch"]
        side = np.abs(u)
        pads = ellipse(side - 0.62 * f["muzzle"], v - 0.45, f["muzzle"], 0.78 * f["muzzle"])
        chin = ellipse(u, v - 0.66, 0.6 * f["muzzle"], 0.15)
        shape = union(pads, chin, 0.12)
        # White where the coat has white there, else a lighter shade of the fur.
        lift = 0.22 + 0.3 * is_coat(part, "tabby") + 0.65 * is_coat(part, "tuxedo", "calico", "cap")
        pointed = is_coat(part, "pointed")[:, None]
        base = f["fur"] + pointed * (0.9 * f["second_fur"] - f["fur"])
        colour = base + (lift * (1 - 0.6 * pointed[:, 0]))[:, None] * (WHITE - base)
        shade = 1.06 - 0.28 * smoothstep(-0.14, 0.05, shape) * smoothstep(0.3, 0.75, v)
        part.paint(part.cover(shape, 0.06), colour * shade[:, None], 0.95)
        _tongue(part, u, v)
        _mouth(part, u, v)
        _nose(part, u, v)
        dots = ellipse((side - 0.2) % 0.1 - 0.05, (v - 0.43) % 0.09 - 0.045, 0.014, 0.014)
        near = np.maximum(np.abs(side - 0.3) - 0.1, np.abs(v - 0.475) - 0.045)
        part.paint(part.cover(np.maximum(dots, near)), colour * 0.5, 0.6)


def _nose(part: Canvas, u: Array, v: Array) -> None:
    f = part.factors
    size = f["nose"]
    nose = union(
        ellipse(u, v - 0.24, size, 0.42 * size),
        ellipse(u, v - 0.24 - 0.4 * size, 0.5 * size, 0.55 * size),
        0.08,
    )
    dark = smoothstep(0.32, 0.2, f["fur"].mean(axis=1)) * (1 - is_coat(part, "tuxedo"))
    dark = np.maximum(dark, is_coat(part, "pointed"))[:, None]
    colour = PINK + dark * (0.28 * PINK - PINK)
    part.paint(part.cover(nose - 0.018), colour * 0.6)
    part.paint(part.cover(nose), colour)
    shine = ellipse(u + 0.3 * size, v - 0.225, 0.3 * size, 0.12 * size)
    part.paint(part.cover(shine, 0.02), WHITE, 0.5)


def _mouth(part: Canvas, u: Array, v: Array) -> None:
    f = part.factors
    side = np.abs(u)
    half = 0.32 * f["muzzle"] * (0.8 + 0.5 * f["smile"])
    depth = 0.035 + 0.05 * f["smile"]
    curve = 0.465 + depth * (1 - ((side - half) / half) ** 2)
    slope = -2 * depth * (side - half) / half**2
    line = stroke(side, v - curve, slope, 0.0, 2 * half)
    groove = stroke(v, u, np.zeros_like(u), 0.3, 0.46)
    part.paint(part.cover(np.minimum(line, groove) - 0.014), DARK, 0.7)


def _tongue(part: Canvas, u: Array, v: Array) -> None:
    f = part.factors
    if not f["tongue"].any():
        return
    tongue = np.maximum(ellipse(u, v - 0.53, 0.085, 0.12), 0.485 - v)
    part.paint(part.cover(tongue - 0.018), _TONGUE * 0.6, f["tongue"])
    part.paint(
        part.cover(tongue),
        _TONGUE * (1.1 - 0.3 * np.exp(-((u / 0.025) ** 2)))[:, None],
        f["tongue"],
    )


def eyes(canvas: Canvas) -> None:
    """Almonds with a slit or round pupil and two highlights."""
    f = canvas.factors
    for side, name in zip(_SIDES, ("left_eye", "right_eye"), strict=True):
        centre = f["yaw"] + side * f["eye_spacing"] * (1 - 0.25 * f["yaw"] * side)
        with canvas.window(centre, -0.07 + f["pitch"], 0.42) as part:
            _eye(part, centre, side, f[name])


def _eye(part: Canvas, centre: Array, side: float, colour: Array) -> None:
    f = part.factors
    size = f["eye_size"]
    # The far eye of a turned head is foreshortened.
    u = (part.u - centre) / (1 - 0.7 * np.clip(side * f["yaw"], 0, None))
    v = part.v + 0.07 - f["pitch"] + f["eye_slant"] * side * u
    height = size * f["eye_openness"]
    # Two arcs that meet in corners make an almond; a wide open eye is round.
    lids = np.maximum(
        ellipse(u, v - 0.16 * height, 1.08 * size, 1.18 * height),
        ellipse(u, v + 0.1 * height, 1.08 * size, 1.08 * height),
    )
    part.paint(part.cover(lids - 0.10, 0.08), f["fur"] + 0.3 * (WHITE - f["fur"]), 0.35)
    liner = lids - 0.035 - 0.03 * smoothstep(0.0, -0.15, v)
    part.paint(part.cover(liner), DARK)
    inside = part.cover(lids)
    gaze = u - f["gaze"] * 0.35 * size
    radius = np.hypot(gaze, v) / size
    iris = 0.72 + 0.5 * smoothstep(-1.0, 0.9, v / size) - 0.35 * smoothstep(0.75, 1.1, radius)
    part.paint(inside, colour * iris[:, None])
    pupil = ellipse(gaze, v, size * (0.12 + 0.75 * f["pupil"]), size * (0.74 + 0.12 * f["pupil"]))
    part.paint(part.cover(pupil) * inside, DARK * 0.6)
    part.paint(inside * smoothstep(-0.2, -0.75, v / height), DARK, 0.45)
    big = ellipse(gaze - 0.26 * size, v + 0.32 * size, 0.24 * size, 0.24 * size)
    small = ellipse(gaze + 0.32 * size, v - 0.34 * size, 0.11 * size, 0.11 * size)
    part.paint(part.cover(np.minimum(big, small)) * inside, WHITE)


def whiskers(canvas: Canvas) -> None:
    """Three curved whiskers on each side."""
    f = canvas.factors
    reach = 0.25 + f["whiskers"]
    for side in _SIDES:
        with canvas.window(f["yaw"] + side * 0.75, 0.45 + f["pitch"], 0.72) as part:
            along = side * (part.u - f["yaw"]) - 0.24
            v = part.v - f["pitch"] - 0.47
            t = np.clip(along / reach, 0, 1)
            nearest = np.full_like(v, 1.0)
            for rise in _SIDES[0], 0.0, _SIDES[1]:
                tilt = 0.26 * rise
                bend = f["whisker_droop"]
                offset = v - 0.05 * rise - tilt * along - bend * along * along
                slope = tilt + 2 * bend * along
                nearest = np.minimum(nearest, stroke(along, offset, slope, 0.0, reach))
            thickness = 0.016 * (1 - 0.75 * t)
            part.paint(part.cover(nearest - thickness), WHITE, 0.8)
