"""Signed distances to simple outlines, negative inside, and functions that join them.

All take arrays that broadcast to (n, height, width); lengths are those of the coordinates given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Number = float | Array


def ellipse(u: Array, v: Array, a: Number, b: Number) -> Array:
    """Distance to an axis-parallel ellipse at the origin, exact to first order at its outline."""
    p, q = u / a, v / b
    value = p * p + q * q
    p /= a
    q /= b
    slope = 2 * np.sqrt(p * p + q * q)
    distance: Array = (value - 1) / np.maximum(slope, 1e-3)
    return distance


def wedge(along: Array, across: Array, length: Number, width: Number, bulge: Number) -> Array:
    """Distance to a shape like an ear: from a base of half-width `width` to a point at `length`.

    `bulge` above 1 rounds the sides outwards.
    """
    t = np.clip(along / length, 1e-3, 1)
    power = t**bulge
    slope = width * bulge * power / t / length
    past = np.maximum(along - length, 0)
    reach = np.abs(across)
    side = (reach - width * (1 - power) + slope * past) / np.sqrt(1 + slope * slope)
    # Beyond the tip the tip itself is nearest, but for what lies beside the last of the sides.
    side = np.where((past > 0) & (slope * reach < past), np.hypot(past, reach), side)
    distance: Array = np.maximum(side, -along)
    return distance


def stroke(along: Array, offset: Array, slope: Array, start: Number, stop: Number) -> Array:
    """Distance to a thin curve given as a function of `along`: `offset` above it, `slope` there."""
    distance: Array = np.abs(offset) / np.sqrt(1 + slope * slope)
    within: Array = np.maximum(distance, np.maximum(start - along, along - stop))
    return within


def union(first: Array, second: Array, radius: float) -> Array:
    """The smaller of two distances, blended where they are within `radius` of each other."""
    blend = np.clip(0.5 + 0.5 * (second - first) / radius, 0, 1)
    joined: Array = second + blend * (first - second) - radius * blend * (1 - blend)
    return joined


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    step: Array = t * t * (3 - 2 * t)
    return step
