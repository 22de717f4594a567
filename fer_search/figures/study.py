"""Figures of a study: its trials in, `Figure` out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from fer_search.figures import scales, style
from fer_search.trials import ENDED, WORDS, TrialSummary, best_of, differing

NOTHING = "no completed trials yet"

_ROOM = 24
"""Letters of tick labels that fit below a slice."""
_LATER = LinearSegmentedColormap.from_list("later", ["#c6dbef", "#6baed6", "#08519c", "#08204a"])


def optimization_history(trials: Sequence[TrialSummary]) -> Figure:
    """Draw the value of every trial, and the best so far, in the order of the trials."""
    figure = style.new_figure(8, 4.2, "Search history", _summary(trials))
    axes = figure.subplots()
    style.plain(axes, grid="y")
    complete, pruned = _ended(trials, "COMPLETE"), _ended(trials, "PRUNED")
    last = max((trial.number for trial in trials), default=0)
    if pruned:
        axes.scatter(
            *_points(pruned), color=style.GREY, marker="x", s=22, linewidths=1, label="pruned"
        )
    if complete:
        numbers, values = _points(complete)
        numbers_on = [*numbers, last + 0.5]
        best = np.maximum.accumulate([*values, 0])
        axes.step(numbers_on, best, where="post", color=style.ORANGE, label="best so far")
        axes.scatter(numbers, values, color=style.BLUE, s=28, zorder=3, label="complete")
    failed = [trial.number for trial in trials if trial.state == "FAIL"]
    if failed:  # they have no value and are marked on the axis
        place = axes.get_xaxis_transform()
        axes.plot(
            failed, [0.02] * len(failed), "|", color=style.INK, transform=place, label="failed"
        )
    axes.set_ylabel(style.OBJECTIVE, color=style.INK)
    style.count_below(axes, "trial", 0, last)
    style.legend(axes, n_columns=4)
    if not complete and not pruned:
        style.note(axes, NOTHING)
    return figure


def parameter_importances(importances: Mapping[str, float]) -> Figure:
    """Draw how much the best trials differ from all trials in each parameter, largest on top.

    Args:
        importances: Share per parameter, in [0, 1]; empty while they cannot be computed.
    """
    ranked = sorted(importances.items(), key=lambda item: item[1])
    figure = style.new_figure(
        8,
        max(1.3 + 0.3 * len(ranked), 2.2),
        "Parameter importances",
        "how much the best trials, pruned ones included, differ from all; shares of 1",
    )
    axes = figure.subplots()
    style.plain(axes, grid="x")
    if not ranked:
        style.note(axes, "too few finished trials")
        return figure
    names, shares = zip(*ranked, strict=True)
    axes.barh([style.verbatim(name) for name in names], shares, color=style.BLUE, height=0.62)
    for row, share in enumerate(shares):
        axes.text(share, row, f" {share:.1%}", va="center", color=style.INK, fontsize=9)
    axes.set_xlim(0, (shares[-1] or 1) * 1.12)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(axis="y", length=0)
    return figure


def parameters(trials: Sequence[TrialSummary], names: Sequence[str] | None = None) -> Figure:
    """Draw, for every parameter, the objective of completed trials over the values they had.

    Parameters with few values are drawn as choices, wide ranges along a log scale. Later trials
    have darker points, to show where the search went; the best trial is ringed.

    Args:
        trials: All trials of a study.
        names: Names of the parameters; if None, all that had more than one value.
    """
    complete, best = _ended(trials, "COMPLETE"), best_of(trials)
    names = differing(trials, {}) if names is None else names
    n_columns = min(3, max(len(names), 1))
    n_rows = max(math.ceil(len(names) / n_columns), 1)
    width = 2.5 * n_columns + 1.2 if names else 8
    figure = style.new_figure(
        max(width, 6.5), 2.1 * n_rows + 1, "Parameters and objective", _summary(trials)
    )
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    if not best or not names:
        style.plain(grid[0, 0], grid="y")
        style.note(grid[0, 0], "no parameter differs between completed trials" if best else NOTHING)
        return figure
    order = Normalize(complete[0].number, complete[-1].number)
    for axes, name in zip(grid.flat, names, strict=False):
        style.plain(axes, grid="y")
        axes.set_title(style.verbatim(name), fontsize=9, color=style.INK)
        having = [trial for trial in complete if name in trial.params]
        _slice(axes, having, name, best=best, order=order)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supylabel(style.OBJECTIVE, fontsize=10, color=style.INK)
    if len(complete) > 1:
        bar = figure.colorbar(ScalarMappable(order, _LATER), ax=grid, shrink=0.5, aspect=30)
        bar.set_label("trial", color=style.INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(color=style.PALE, labelcolor=style.INK, labelsize=9)
        bar.locator = MaxNLocator(4, integer=True)
    return figure


def trial_curves(trials: Sequence[TrialSummary]) -> Figure:
    """Draw the validation macro-F1 of every trial over its epochs, the best trial on top."""
    figure = style.new_figure(8, 4.4, "Trials over their epochs", _summary(trials))
    axes = figure.subplots()
    style.plain(axes, grid="y")
    best = best_of(trials)
    looks: dict[str, dict[str, Any]] = {
        "PRUNED": {"color": style.GREY, "linestyle": "--", "linewidth": 0.9},
        "FAIL": {"color": style.INK, "linestyle": ":", "linewidth": 1.1},
        "RUNNING": {"color": style.GREEN, "linestyle": "-.", "linewidth": 1.2},
        "COMPLETE": {"color": style.BLUE, "linewidth": 1.1},
    }
    handles: list[Line2D] = []
    for state, look in looks.items():
        curves = [t.curve for t in trials if t.state == state and t.curve and t is not best]
        for curve in curves:
            _curve(axes, curve, alpha=np.clip(15 / len(curves), 0.15, 0.75), **look)
        if curves:
            handles.append(Line2D([], [], label=f"{WORDS[state]} ({len(curves)})", **look))
    if best and best.curve:
        _curve(axes, best.curve, zorder=4, color=style.ORANGE, linewidth=2.4)
        label = f"best: trial {best.number}"
        handles.append(Line2D([], [], label=label, color=style.ORANGE, linewidth=2.4))
    axes.set_ylabel(style.OBJECTIVE, color=style.INK)
    style.count_below(
        axes, "epoch", 1, max((e for trial in trials for e in trial.curve), default=1)
    )
    style.legend(axes, handles[::-1], n_columns=5)
    if not handles:
        style.note(axes, NOTHING)
    return figure


def _ended(trials: Sequence[TrialSummary], state: str) -> list[TrialSummary]:
    """List the trials that ended in a state and have a value, by number."""
    ended = [trial for trial in trials if trial.state == state and trial.value is not None]
    return sorted(ended, key=lambda trial: trial.number)


def _points(trials: Sequence[TrialSummary]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers and values of trials that have a value."""
    return np.array([t.number for t in trials]), np.array([t.value for t in trials], float)


def _summary(trials: Sequence[TrialSummary]) -> str:
    """Say how many trials are in which state, and which is the best."""
    states = [trial.state for trial in trials]
    ends = [f"{n} {WORDS[state]}" for state in (*ENDED, "RUNNING") if (n := states.count(state))]
    best = best_of(trials)
    said = f"best: trial {best.number} with {best.value:.3f}" if best else NOTHING
    return "  ·  ".join([*ends, said])


def _slice(
    axes: Axes, trials: Sequence[TrialSummary], name: str, *, best: TrialSummary, order: Normalize
) -> None:
    """Draw the objective over the values of a parameter that all these trials have."""
    values = [trial.params[name] for trial in trials]
    places = np.array(_along_axis(axes, values))
    numbers, reached = _points(trials)
    size = np.clip(2000 / len(trials), 10, 26)
    late: dict[str, Any] = {"c": numbers, "cmap": _LATER, "norm": order}
    axes.scatter(places, reached, s=size, edgecolors="white", linewidths=0.4, **late)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": style.ORANGE, "linewidths": 1.6}
    at_best = numbers == best.number
    axes.scatter(places[at_best], reached[at_best], s=75, **ring)


def _along_axis(axes: Axes, values: Sequence[scales.Value]) -> list[float]:
    """Choose a scale that suits the values and return their places on it."""
    if not scales.are_choices(values):
        places = [float(value) for value in values]
        if scales.are_wide(places):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return places
    choices = scales.distinct(values)
    labels = [scales.label(value) for value in choices]
    slanted: dict[str, Any] = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    is_long = sum(map(len, labels)) > _ROOM
    axes.set_xticks(range(len(choices)), labels, **slanted if is_long else {})
    axes.set_xlim(-0.6, len(choices) - 0.4)
    return [choices.index(value) + scales.aside(n) for n, value in enumerate(values)]


def _curve(axes: Axes, curve: Mapping[int, float], **look: Any) -> None:
    """Draw values by epoch, a single one as a point."""
    epochs = sorted(curve)
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, [curve[epoch] for epoch in epochs], marker=marker, markersize=3, **look)
