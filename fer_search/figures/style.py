"""The look of all figures: one style of text, one set of colours, few lines.

Figures are made without pyplot, so they need no display, leave no global state and may be drawn in
any thread; saving them is up to the caller. Colours are those of Okabe and Ito
(https://jfly.uni-koeln.de/color), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

_DPI = 150
INK, GREY, PALE = "#222222", "#6f6f6f", "#bdbdbd"
OBJECTIVE = "validation macro-F1"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
SERIES = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00")
"""Colours of things shown together, in order."""


def counted(number: int, noun: str) -> str:
    """Spell `1 image`, `2 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def verbatim(text: str) -> str:
    """Escape a name, so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def new_figure(
    width: float, height: float, title: str, subtitle: str, *, pad: float = 0.1
) -> Figure:
    """Make an empty figure with a title and a line of facts at its top left; sizes in inches."""
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, rect=(0, 0, 1, 1 - 0.6 / height))
    figure = Figure((width, height), dpi=_DPI, layout=layout)
    figure.text(
        0.12 / width, 1 - 0.12 / height, title, va="top", fontsize=13, weight="bold", color=INK
    )
    figure.text(0.12 / width, 1 - 0.38 / height, subtitle, va="top", fontsize=10, color=GREY)
    return figure


def plain(axes: Axes, grid: Literal["x", "y"]) -> None:
    """Reduce the frame to what is needed to read a value."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(which="both", color=PALE, labelcolor=INK, labelsize=9)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def count_below(axes: Axes, name: str, first: int, last: int) -> None:
    """Count epochs or trials along the x axis, in whole numbers only."""
    axes.set_xlabel(name, color=INK)
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def legend(axes: Axes, handles: Sequence[Artist] | None = None, *, n_columns: int = 2) -> None:
    """Put a legend above the axes, where it hides nothing."""
    if handles is None:
        handles = axes.get_legend_handles_labels()[0]
    if handles:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1)}
        axes.legend(handles=handles, ncols=n_columns, frameon=False, fontsize=9, **place)


def note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=11
    )
