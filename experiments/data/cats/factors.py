"""What every face is drawn from: drawn at random, a function of the seed and the index alone."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from experiments.data.cats.canvas import MAX_SCALE, Factors

Values = NDArray[np.float64]
Drawn = dict[str, Values]

CHUNK = 128
"""Faces whose factors are drawn at once, however many are wanted: so face i is always the same."""

COATS = ("solid", "tabby", "tuxedo", "cap", "calico", "tortoiseshell", "pointed")
BACKGROUNDS = ("gradient", "glow", "disc", "stripes", "dots", "floor")
ACCESSORIES = ("none", "collar", "bow")
EYES = ("green", "gold", "copper", "blue", "aqua")

_COAT_SHARES = (0.2, 0.24, 0.15, 0.11, 0.1, 0.08, 0.12)
_BACKGROUND_SHARES = (0.3, 0.2, 0.15, 0.1, 0.1, 0.15)
_ACCESSORY_SHARES = (0.6, 0.25, 0.15)
_EYE_SHARES = (0.28, 0.26, 0.18, 0.14, 0.14)

_EYE_COLOURS = ((124, 190, 84), (232, 196, 66), (216, 134, 50), (98, 166, 226), (92, 200, 180))
_BLACK, _CHARCOAL, _BLUE, _SILVER = (50, 46, 52), (86, 84, 92), (122, 131, 147), (182, 184, 190)
_BROWN, _CHOCOLATE, _GINGER = (132, 98, 72), (92, 64, 52), (226, 144, 70)
_CREAM, _APRICOT, _WHITE = (240, 216, 180), (238, 178, 116), (246, 242, 236)

# Base and second colour of the fur, by coat: cats come in these, not in every colour.
_FURS = {
    "solid": [(c, c) for c in (_BLACK, _CHARCOAL, _BLUE, _SILVER, _GINGER, _CREAM, _WHITE, _BROWN)],
    "tabby": [
        (_SILVER, _CHARCOAL), (_BROWN, (66, 48, 38)), (_GINGER, (176, 92, 38)),
        (_CREAM, (206, 160, 108)), (_BLUE, (74, 80, 94)), ((170, 142, 108), (92, 70, 52)),
    ],
    "tuxedo": [(c, _WHITE) for c in (_BLACK, _BLACK, _CHARCOAL, _BLUE, _GINGER, _BROWN)],
    "cap": [(_WHITE, c) for c in (_BLACK, _GINGER, _BLUE, _BROWN, _CHARCOAL)],
    "calico": [(_WHITE, _GINGER), (_WHITE, _APRICOT), ((250, 240, 224), (210, 122, 58))],
    "tortoiseshell": [(_BLACK, _GINGER), (_CHOCOLATE, _APRICOT), (_CHARCOAL, _CREAM)],
    "pointed": [
        (_CREAM, (84, 62, 54)), (_WHITE, (112, 116, 130)), ((244, 228, 204), (120, 84, 62)),
        (_WHITE, (214, 138, 78)),
    ],
}  # fmt: skip


def draw_factors(seed: int, chunk: int) -> Factors:
    """The factors of the `CHUNK` faces of a chunk, float32, (CHUNK,) or, for colours, (CHUNK, 3).

    Positions and sizes are in half the side of the image (`x`, `y`, `scale`) or of the face (the
    rest), angles in radians, colours sRGB in [0, 1]. `coat`, `background`, `accessory` and
    `eye_colour` index `COATS`, `BACKGROUNDS`, `ACCESSORIES` and `EYES`; `tongue` and `odd_eyed`
    are 0 or 1.
    """
    rng = np.random.default_rng([seed, chunk])

    def uniform(low: float, high: float) -> Values:
        return rng.uniform(low, high, CHUNK)

    def choice(shares: tuple[float, ...]) -> NDArray[np.int64]:
        return rng.choice(len(shares), size=CHUNK, p=shares)

    coat = choice(_COAT_SHARES)
    factors = {
        "x": uniform(-0.13, 0.13),
        "y": uniform(-0.02, 0.14),
        "scale": uniform(0.56, MAX_SCALE),
        "roll": rng.normal(0, 0.13, CHUNK).clip(-0.38, 0.38),
        "yaw": uniform(-0.24, 0.24),
        "pitch": uniform(-0.07, 0.07),
        "width": uniform(0.92, 1.08),
        "jowls": uniform(0.88, 1.12),
        "fluff": uniform(0.0, 0.045),
        "ear_height": uniform(0.62, 0.98),
        "ear_width": uniform(0.32, 0.44),
        "ear_lean": uniform(0.18, 0.62),
        "ear_roundness": uniform(1.05, 2.2),
        "eye_size": uniform(0.2, 0.28),
        "eye_spacing": uniform(0.37, 0.45),
        "eye_openness": uniform(0.62, 1.08),
        "eye_slant": uniform(-0.12, 0.2),
        "pupil": uniform(0.18, 0.78),
        "gaze": uniform(-0.3, 0.3),
        "muzzle": uniform(0.23, 0.31),
        "nose": uniform(0.10, 0.15),
        "smile": uniform(0.5, 1.0),
        "whiskers": uniform(0.45, 0.9),
        "whisker_droop": uniform(-0.12, 0.3),
        "light": uniform(-1.0, 1.0),
        "marking": uniform(0.0, 1.0),
        "phase": uniform(0.0, 2 * np.pi),
        "coat": coat,
        "accessory": choice(_ACCESSORY_SHARES),
        "tongue": rng.random(CHUNK) < 0.08,
        "background": choice(_BACKGROUND_SHARES),
        "background_angle": uniform(0.0, 2 * np.pi),
    }
    factors |= _fur_colours(rng, coat)
    factors |= _eye_colours(rng, coat)
    factors |= _background_colours(rng)
    return {name: np.asarray(values, dtype=np.float32) for name, values in factors.items()}


def _fur_colours(rng: np.random.Generator, coat: NDArray[np.int64]) -> Drawn:
    pick = rng.random(CHUNK)
    pairs = np.array(
        [_FURS[COATS[c]][int(p * len(_FURS[COATS[c]]))] for c, p in zip(coat, pick, strict=True)]
    )
    # Lighter or darker and warmer or cooler, but never green.
    lightness = rng.normal(1, 0.06, (CHUNK, 1, 1))
    warmth = rng.normal(0, 0.018, (CHUNK, 1, 1)) * np.array([1.0, 0.1, -1.0])
    fur = np.clip(pairs / 255 * lightness + warmth, 0.03, 0.98)
    return {"fur": fur[:, 0], "second_fur": fur[:, 1]}


def _eye_colours(rng: np.random.Generator, coat: NDArray[np.int64]) -> Drawn:
    index = rng.choice(len(EYES), size=CHUNK, p=_EYE_SHARES)
    # Pointed cats have blue eyes.
    index = np.where(coat == COATS.index("pointed"), EYES.index("blue"), index)
    odd = rng.random(CHUNK) < 0.05
    other = np.where(odd, (index + 1 + rng.integers(2, size=CHUNK)) % len(EYES), index)
    tint = rng.normal(0, 0.03, (CHUNK, 3))
    colours = np.array(_EYE_COLOURS) / 255
    return {
        "eye_colour": index.astype(np.float64),
        "odd_eyed": odd.astype(np.float64),
        "left_eye": np.clip(colours[index] + tint, 0, 1),
        "right_eye": np.clip(colours[other] + tint, 0, 1),
    }


def _background_colours(rng: np.random.Generator) -> Drawn:
    """Two colours that go together, and one for a collar or bow that stands out."""
    hue = rng.random(CHUNK)
    shift = rng.choice([-0.12, -0.06, 0.05, 0.1, 0.45], size=CHUNK)
    saturation = rng.uniform(0.18, 0.62, (2, CHUNK))
    value = rng.uniform(0.5, 0.95, (2, CHUNK))
    accent = rng.random(CHUNK)

    def rgb(h: Values, s: Values, v: Values) -> Values:
        return np.array([colorsys.hsv_to_rgb(*hsv) for hsv in zip(h % 1.0, s, v, strict=True)])

    return {
        "background_first": rgb(hue, saturation[0], value[0]),
        "background_second": rgb(hue + shift, saturation[1], value[1]),
        "accent": rgb(accent, np.full(CHUNK, 0.72), np.full(CHUNK, 0.82)),
    }
