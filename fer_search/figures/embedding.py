"""Figures as text that a web page can contain: data URIs, so that a report is one file."""

from __future__ import annotations

import base64
import dataclasses
import io

from matplotlib.figure import Figure

_LARGEST_SVG = 200_000
"""Bytes above which a figure with very many points is stored as pixels instead."""
_PIXELS_PER_INCH = 190
"""Resolution of such an image: crisp on screens with two pixels per CSS pixel."""
_CSS_PIXELS_PER_INCH = 96


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedFigure:
    """A figure for a web page."""

    uri: str
    """`data:image/…;base64,…`."""
    alt: str
    """What it shows, for those who cannot see it."""
    width: int
    """In CSS pixels at its natural size."""
    height: int


def embedded(figure: Figure) -> EmbeddedFigure:
    """Encode a figure as SVG, or as PNG if it is very detailed; its title becomes `alt`."""
    kind, content = "svg+xml", _saved(figure, "svg")
    if len(content) > _LARGEST_SVG:
        kind, content = "png", _saved(figure, "png")
    width, height = figure.get_size_inches() * _CSS_PIXELS_PER_INCH
    said = [text.get_text() for text in figure.texts if text.get_text()]
    return EmbeddedFigure(
        uri=data_uri(kind, content), alt=": ".join(said), width=round(width), height=round(height)
    )


def data_uri(kind: str, content: bytes) -> str:
    """Encode an image file of a kind, `png` or `svg+xml`, as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=_PIXELS_PER_INCH)
    return file.getvalue()
