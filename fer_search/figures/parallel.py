"""Parallel coordinates: every completed trial as a line through its parameters to its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fer_search.figures import scales, style
from fer_search.figures.study import NOTHING
from fer_search.trials import TrialSummary, best_of, complete, differing

MOST = 8
"""Largest number of parameters shown, the most important ones."""
_UNUSED = -0.2
"""Height of the lines of trials that do not have a parameter."""

_LABEL: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "fontsize": 8,
    "color": style.INK,
    "zorder": 5,
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
}
_BETTER = LinearSegmentedColormap.from_list("better", ["#b9d3e6", "#6baed6", "#08519c"])


def parallel_coordinates(
    trials: Sequence[TrialSummary], importances: Mapping[str, float]
) -> Figure:
    """Draw completed trials through their parameters, better ones darker, the best in orange.

    Args:
        trials: All trials of a study.
        importances: Importance by parameter; larger ones come first, parameters without one last.
    """
    rising = complete(trials)[::-1]  # the best is drawn last
    every = differing(rising, importances)
    names = every[:MOST]
    first = ", most important first" if importances else ""
    shown = f"{len(names)} of {len(every)} parameters that differ{first}" if names else ""
    figure = style.new_figure(8, 4.6, "Parallel coordinates", shown)
    axes = figure.subplots()
    if not rising or not names:
        style.plain(axes, grid="y")
        style.note(axes, "no parameter differs between completed trials" if rising else NOTHING)
        return figure
    given: list[list[scales.Value | None]] = [
        *([trial.params.get(name) for trial in rising] for name in names),
        [trial.value for trial in rising],
    ]
    columns = [_column(axes, x, values) for x, values in enumerate(given)]
    lines, ranks = np.array(columns).T, np.linspace(0, 1, len(rising))
    best = best_of(rising)
    for trial, line, rank in zip(rising, lines, ranks, strict=True):
        look = (
            {"color": style.ORANGE, "linewidth": 2.4, "zorder": 4}
            if trial is best
            else {"color": _BETTER(rank), "linewidth": 1.0}
        )
        axes.plot(line, **look)
    labels = [*map(style.verbatim, names), "macro-F1"]
    axes.set_xticks(range(len(columns)), labels, rotation=25, ha="right")
    axes.tick_params(length=0, labelsize=9, labelcolor=style.INK)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.35, len(columns) - 0.65)
    axes.set_ylim(_UNUSED - 0.05 if (lines == _UNUSED).any() else -0.1, 1.1)
    return figure


def _column(axes: Axes, x: int, values: Sequence[scales.Value | None]) -> list[float]:
    """Draw a vertical axis with its labels and return the height of every value on it."""
    axes.plot([x, x], [0, 1], color=style.PALE, linewidth=1, zorder=2)
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        axes.text(x, _UNUSED, "not used", **_LABEL)
    if scales.are_choices(there):
        choices = scales.distinct(there)
        step = 1 / max(len(choices) - 1, 1)
        for index, choice in enumerate(choices):
            _mark(axes, x, index * step, scales.label(choice))
        return [
            _UNUSED if value is None else choices.index(value) * step + 0.04 * scales.aside(n)
            for n, value in enumerate(values)
        ]
    numbers = [float(value) for value in there]
    bend: Callable[[float], float] = math.log if scales.are_wide(numbers) else float
    low, high = min(numbers), max(numbers)
    for place, value in ((0, low), (1, high)):
        _mark(axes, x, place, scales.label(value))
    span = bend(high) - bend(low)
    return [
        _UNUSED if value is None else (bend(float(value)) - bend(low)) / span for value in values
    ]


def _mark(axes: Axes, x: int, y: float, text: str) -> None:
    """Label a value at its place on an axis: the ends outside, others beside it."""
    if y in (0, 1):
        axes.text(x, y + (0.045 if y else -0.045), text, **_LABEL)
    else:
        axes.text(x + 0.05, y, text, **_LABEL | {"ha": "left"})
