"""Annotated images: a square around each face, and its emotion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fer_search.serving.faces import WHOLE

_FRAME, _INK = "#d55e00", "#ffffff"
_SMALLEST = 320
"""Shorter side to which small images are enlarged, so that the text is readable …"""
_LARGEST = 2000
"""… and the longer side beyond which none is enlarged."""


def annotate(image: Image.Image, rows: Iterable[Mapping[str, Any]]) -> Image.Image:
    """Draw predictions on a copy of an image.

    Args:
        image: An image of any size and mode.
        rows: `region`, `left`, `top`, `side` (pixels), `emotion` and `probability` of each face.
    """
    scale = max(1.0, min(_SMALLEST / min(image.size), _LARGEST / max(image.size)))
    size = round(scale * image.width), round(scale * image.height)
    drawn = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    line = max(2, min(size) // 200)
    for row in rows:
        left, top, side = (round(scale * row[name]) for name in ("left", "top", "side"))
        if is_face := row["region"] != WHOLE:
            corner = (left + side - 1, top + side - 1)
            draw.rectangle((left, top, *corner), outline=_FRAME, width=line)
        font = ImageFont.load_default(max(12, min(side // 7, 40)))
        words = f"{row['emotion']} {row['probability']:.0%}" if is_face else WHOLE
        *_, wide, high = draw.textbbox((0, 0), words, font=font)
        x = max(0, min(left, size[0] - int(wide) - 8))
        y = top - int(high) - 8 if top >= high + 8 else top
        draw.rectangle((x, y, x + wide + 8, y + high + 8), fill=_FRAME)
        draw.text((x + 4, y + 3), words, fill=_INK, font=font)
    return drawn
