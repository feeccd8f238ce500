"""Colours of labels: distinct ones by default, or as a person writes them."""

from __future__ import annotations

import colorsys
import re

from MedSeqFTLib.errors import InputError

Color = tuple[float, float, float]  # red, green, blue in 0..1
_GOLDEN_RATIO = 0.618033988749895


def distinct_color(position: int) -> Color:
    """A colour for the label at `position` (0, 1, 2, ...) that differs from those before it."""
    hue = (0.02 + position * _GOLDEN_RATIO) % 1.0  # never comes near an earlier hue
    saturation, value = ((0.75, 0.95), (0.45, 0.95), (0.9, 0.65))[position // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return (round(red, 3), round(green, 3), round(blue, 3))


def color_from_hex(text: str) -> Color:
    """The colour of "#rrggbb". Raises InputError for anything else."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise InputError(f"{text!r} is not a colour; write it as #rrggbb, for instance #ff8000.")
    red, green, blue = (int(text[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return (round(red, 3), round(green, 3), round(blue, 3))


def hex_from_color(color: Color) -> str:
    """The colour as "#rrggbb"."""
    return "#" + "".join(f"{round(255 * share):02x}" for share in color)
