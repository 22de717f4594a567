"""Matplotlib's home: data in, `Figure` out.

Figures are made without pyplot, so they need no display, leave no global state and may be drawn in
any thread; writing them somewhere is the caller's business. Colours are those of Okabe and Ito
(https://jfly.uni-koeln.de/color), which the colour-blind can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from fer_search.config import EMOTIONS
from fer_search.results import EpochMetrics, Evaluation, TrialPoint, best_of

NOTHING = "no completed trial yet"

_DPI = 150
_INK, _GREY, _PALE = "#222222", "#6f6f6f", "#bdbdbd"
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_LATER = LinearSegmentedColormap.from_list("later", ["#c6dbef", "#6baed6", "#08519c", "#08204a"])
_OBJECTIVE = "validation macro-F1"
_ENDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
_FEW = 6
"""So many different whole numbers are drawn as choices instead of along a scale."""
_WIDE = 20
"""A log scale needs a range of this factor, and most of the values in its lowest quarter."""


def confusion_matrix(evaluation: Evaluation, title: str) -> Figure:
    """Draw how often which emotion is taken for which.

    Each cell has the number of pictures and their share of the true emotion, which also colours it.
    Beside its row stand the number of pictures, recall and F1 of an emotion.
    """
    counts, n_classes = evaluation.confusion, len(EMOTIONS)
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, np.newaxis]
    figure = _figure(8, 6.4, title, _headline(evaluation))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        ink = "white" if share > 0.6 else _INK
        axes.text(column, row - 0.12, f"{count:,}", color=ink, fontsize=11, **middle)
        if support[row]:
            axes.text(column, row + 0.24, f"{share:.0%}", color=ink, fontsize=8, **middle)
    beside = {
        "pictures": [f"{n:,}" for n in support],
        "recall": [
            f"{r:.2f}" if n else "–" for r, n in zip(evaluation.recall, support, strict=True)
        ],
        "F1": [f"{f1:.2f}" for f1 in evaluation.f1],
    }
    for place, (name, texts) in enumerate(beside.items()):
        column = n_classes + 0.1 + 0.85 * place
        axes.text(column, -0.7, name, color=_GREY, fontsize=10, **middle)
        for row, text in enumerate(texts):
            axes.text(column, row, text, color=_INK, fontsize=10, **middle)
    axes.set_xlim(-0.5, n_classes + 2.2)
    axes.set_xticks(range(n_classes), EMOTIONS)
    axes.set_yticks(range(n_classes), EMOTIONS)
    axes.hlines(np.arange(n_classes - 1) + 0.5, -0.5, n_classes - 0.5, "white", linewidth=1.5)
    axes.vlines(np.arange(n_classes - 1) + 0.5, -0.5, n_classes - 0.5, "white", linewidth=1.5)
    axes.tick_params(length=0, labelsize=10, labelcolor=_INK)
    axes.set_xlabel("predicted emotion", color=_INK, x=n_classes / (n_classes + 2.7) / 2)
    axes.set_ylabel("true emotion", color=_INK)
    axes.spines[:].set_visible(False)
    return figure


def per_emotion_f1(evaluation: Evaluation, title: str) -> Figure:
    """Draw the F1 of every emotion as a bar, with the number of its pictures."""
    figure = _figure(8, 3.8, title, _headline(evaluation))
    axes = figure.subplots()
    _style(axes, grid="x")
    axes.axvline(evaluation.macro_f1, color=_ORANGE, linestyle="--", linewidth=1.2, zorder=1)
    axes.text(evaluation.macro_f1, -0.85, "macro-F1", color=_ORANGE, ha="center", fontsize=9)
    axes.barh(EMOTIONS, evaluation.f1, color=_BLUE, height=0.62)
    for row, f1 in enumerate(evaluation.f1):
        ground = {"color": "white", "pad": 1.5}
        axes.text(f1 + 0.012, row, f"{f1:.2f}", va="center", color=_INK, fontsize=10, bbox=ground)
    for row, support in enumerate(evaluation.confusion.sum(axis=1)):
        said = _counted(support, "picture")
        axes.text(1.29, row, said, va="center", ha="right", color=_GREY, fontsize=9)
    axes.set_xlim(0, 1.3)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_ylim(len(EMOTIONS) - 0.5, -0.7)
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.set_xlabel("F1", color=_INK)
    return figure


def learning_curves(epochs: Sequence[EpochMetrics], best_epoch: int | None) -> Figure:
    """Draw loss and scores over the epochs.

    Args:
        epochs: In order; one epoch is drawn as points.
        best_epoch: Whose weights were kept, counted from 1; None to mark none.
    """
    best = next((epoch for epoch in epochs if epoch.epoch == best_epoch), None)
    figure = _figure(
        9,
        4.2,
        "Learning curves",
        f"best epoch {best.epoch}: {_OBJECTIVE} {best.val_macro_f1:.3f}" if best else "",
    )
    panels: dict[str, dict[str, tuple[list[float], str]]] = {
        "loss (nats per picture)": {
            "training": ([epoch.loss for epoch in epochs], _GREY),
            "validation": ([epoch.val_loss for epoch in epochs], _BLUE),
        },
        "score": {
            "training accuracy": ([epoch.accuracy for epoch in epochs], _GREY),
            "validation accuracy": ([epoch.val_accuracy for epoch in epochs], _BLUE),
            "validation macro-F1": ([epoch.val_macro_f1 for epoch in epochs], _ORANGE),
        },
    }
    numbers = [epoch.epoch for epoch in epochs]
    marker = "o" if len(epochs) <= 30 else ""
    for axes, (name, curves) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        _style(axes, grid="y")
        for label, (values, color) in curves.items():
            axes.plot(numbers, values, color=color, label=label, marker=marker, markersize=3.5)
        if best:
            axes.axvline(best.epoch, color=_INK, linestyle=":", linewidth=1.2, label="best epoch")
        axes.set_ylabel(name, color=_INK)
        _count_below(axes, "epoch", 1, max(numbers, default=1))
        if epochs:
            _legend(axes)
        else:
            _note(axes, "no epoch yet")
    return figure


def augmentation(originals: np.ndarray, augmented: np.ndarray, labels: np.ndarray) -> Figure:
    """Draw training pictures above what the network saw of them.

    Args:
        originals: Shape (N, H, W), in [0, 255], N at least 1.
        augmented: K variations of each, shape (K, N, H, W), in [0, 255].
        labels: Emotion per picture, shape (N,), values in [0, 7).

    Raises:
        ValueError: If the three do not have the same pictures.
    """
    n_pictures = len(originals)
    if not n_pictures or augmented.shape[1:2] != (n_pictures,) or labels.shape != (n_pictures,):
        raise ValueError(
            "expected originals (N, H, W), augmented (K, N, H, W) and labels (N,) with N at least "
            f"1, got {originals.shape}, {augmented.shape} and {labels.shape}"
        )
    rows = [originals, *augmented]
    width = max(1.05 * n_pictures + 1.1, 5)
    figure = _figure(
        width,
        1.05 * len(rows) + 1,
        "What the network saw",
        f"training pictures and {_counted(len(augmented), 'random variation')} of each",
        pad=0.04,
    )
    grid = figure.subplots(len(rows), n_pictures, squeeze=False)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            axes = grid[row, column]
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
    for axes, label in zip(grid[0], labels, strict=True):
        axes.set_title(EMOTIONS[label], fontsize=10, color=_INK)
    for axes, name in zip(grid[:2, 0], ("original", "as trained"), strict=False):
        axes.set_ylabel(name, fontsize=10, color=_INK)
    return figure


def optimization_history(trials: Sequence[TrialPoint]) -> Figure:
    """Draw what every trial reached, and the best so far, in the order of the trials."""
    figure = _figure(8, 4.2, "Search history", _summary(trials))
    axes = figure.subplots()
    _style(axes, grid="y")
    complete, pruned = _ended(trials, "COMPLETE"), _ended(trials, "PRUNED")
    last = max((trial.number for trial in trials), default=0)
    if pruned:
        axes.scatter(*_points(pruned), color=_GREY, marker="x", s=22, linewidths=1, label="pruned")
    if complete:
        numbers, values = _points(complete)
        numbers_on = [*numbers, last + 0.5]
        best = np.maximum.accumulate([*values, 0])
        axes.step(numbers_on, best, where="post", color=_ORANGE, label="best so far")
        axes.scatter(numbers, values, color=_BLUE, s=28, zorder=3, label="complete")
    failed = [trial.number for trial in trials if trial.state == "FAIL"]
    if failed:  # they have no value and stand on the axis
        place = axes.get_xaxis_transform()
        axes.plot(failed, [0.02] * len(failed), "|", color=_INK, transform=place, label="failed")
    axes.set_ylabel(_OBJECTIVE, color=_INK)
    _count_below(axes, "trial", 0, last)
    _legend(axes, n_columns=4)
    if not complete and not pruned:
        _note(axes, NOTHING)
    return figure


def parameter_importances(importances: Mapping[str, float]) -> Figure:
    """Draw how much of the objective's variation each parameter explains, the largest on top.

    Args:
        importances: Share per parameter, in [0, 1]; empty as long as none can be told.
    """
    ranked = sorted(importances.items(), key=lambda item: item[1])
    figure = _figure(
        8,
        max(1.3 + 0.3 * len(ranked), 2.2),
        "Parameter importances",
        "share of the objective's variation that a parameter explains",
    )
    axes = figure.subplots()
    _style(axes, grid="x")
    if not ranked:
        _note(axes, "too few completed trials yet")
        return figure
    names, shares = zip(*ranked, strict=True)
    axes.barh(names, shares, color=_BLUE, height=0.62)
    for row, share in enumerate(shares):
        axes.text(share, row, f" {share:.1%}", va="center", color=_INK, fontsize=9)
    axes.set_xlim(0, (shares[-1] or 1) * 1.12)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(axis="y", length=0)
    return figure


def parameters(trials: Sequence[TrialPoint]) -> Figure:
    """Draw, for every parameter, the objective of complete trials over the values they had.

    Parameters of few values are drawn as choices, wide ranges along a log scale. Points are the
    darker the later the trial, so that one sees where the search went; the best trial is ringed.
    Parameters that had one value only are left out.
    """
    complete, best = _ended(trials, "COMPLETE"), best_of(trials)
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    values = {name: {t.params[name] for t in complete if name in t.params} for name in names}
    names = [name for name in names if len(values[name]) > 1]
    n_columns = min(4, max(len(names), 1))
    n_rows = max(math.ceil(len(names) / n_columns), 1)
    width = 2.5 * n_columns + 1.2 if names else 8
    figure = _figure(
        max(width, 6.5), 2.1 * n_rows + 1, "Parameters and objective", _summary(trials)
    )
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    if not best or not names:
        _style(grid[0, 0], grid="y")
        _note(grid[0, 0], "nothing differs between the completed trials" if best else NOTHING)
        return figure
    order = Normalize(complete[0].number, complete[-1].number)
    for axes, name in zip(grid.flat, names, strict=False):
        _style(axes, grid="y")
        axes.set_title(name, fontsize=9, color=_INK)
        having = [trial for trial in complete if name in trial.params]
        _slice(axes, having, name, best=best, order=order)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supylabel(_OBJECTIVE, fontsize=10, color=_INK)
    if len(complete) > 1:
        bar = figure.colorbar(ScalarMappable(order, _LATER), ax=grid, shrink=0.5, aspect=30)
        bar.set_label("trial", color=_INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(color=_PALE, labelcolor=_INK, labelsize=9)
        bar.locator = MaxNLocator(integer=True)
    return figure


def trial_curves(trials: Sequence[TrialPoint]) -> Figure:
    """Draw the validation macro-F1 of every trial over its epochs, the best trial on top."""
    figure = _figure(8, 4.4, "Trials over their epochs", _summary(trials))
    axes = figure.subplots()
    _style(axes, grid="y")
    best = best_of(trials)
    looks: dict[str, dict[str, Any]] = {
        "PRUNED": {"color": _GREY, "linestyle": "--", "linewidth": 0.9},
        "FAIL": {"color": _INK, "linestyle": ":", "linewidth": 1.1},
        "RUNNING": {"color": _GREEN, "linestyle": "-.", "linewidth": 1.2},
        "COMPLETE": {"color": _BLUE, "linewidth": 1.1},
    }
    handles: list[Line2D] = []
    for state, look in looks.items():
        curves = [t.curve for t in trials if t.state == state and t.curve and t is not best]
        for curve in curves:
            _curve(axes, curve, alpha=np.clip(15 / len(curves), 0.15, 0.75), **look)
        if curves:
            handles.append(Line2D([], [], label=f"{_ENDS[state]} ({len(curves)})", **look))
    if best and best.curve:
        _curve(axes, best.curve, zorder=4, color=_ORANGE, linewidth=2.4)
        label = f"best: trial {best.number}"
        handles.append(Line2D([], [], label=label, color=_ORANGE, linewidth=2.4))
    axes.set_ylabel(_OBJECTIVE, color=_INK)
    _count_below(axes, "epoch", 1, max((e for trial in trials for e in trial.curve), default=1))
    _legend(axes, handles[::-1], n_columns=5)
    if not handles:
        _note(axes, NOTHING)
    return figure


def _ended(trials: Sequence[TrialPoint], state: str) -> list[TrialPoint]:
    """Trials that ended in a state and have a value, by number."""
    ended = [trial for trial in trials if trial.state == state and trial.value is not None]
    return sorted(ended, key=lambda trial: trial.number)


def _points(trials: Sequence[TrialPoint]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and values of trials that have one."""
    return np.array([t.number for t in trials]), np.array([t.value for t in trials], float)


def _summary(trials: Sequence[TrialPoint]) -> str:
    """Say how many trials ended how, and which is the best."""
    states = [trial.state for trial in trials]
    ends = [f"{states.count(state)} {word}" for state, word in _ENDS.items() if state in states]
    best = best_of(trials)
    said = f"best: trial {best.number} with {best.value:.3f}" if best else NOTHING
    return "  ·  ".join([*ends, said])


def _headline(evaluation: Evaluation) -> str:
    return (
        f"accuracy {evaluation.accuracy:.3f}  ·  macro-F1 {evaluation.macro_f1:.3f}  ·  "
        f"{_counted(len(evaluation.labels), 'picture')}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _slice(
    axes: Axes, trials: Sequence[TrialPoint], name: str, *, best: TrialPoint, order: Normalize
) -> None:
    """Draw the objective over the values of a parameter that all these trials have."""
    values = [trial.params[name] for trial in trials]
    places = np.array(_along_axis(axes, values))
    numbers, reached = _points(trials)
    size = np.clip(2000 / len(trials), 10, 26)
    late: dict[str, Any] = {"c": numbers, "cmap": _LATER, "norm": order}
    axes.scatter(places, reached, s=size, edgecolors="white", linewidths=0.4, **late)
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": _ORANGE, "linewidths": 1.6}
    at_best = numbers == best.number
    axes.scatter(places[at_best], reached[at_best], s=75, **ring)


def _along_axis(axes: Axes, values: Sequence[float | int | str | bool]) -> list[float]:
    """Choose a scale that suits the values and return their places on it."""
    distinct = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    are_numbers = not any(isinstance(value, (str, bool)) for value in distinct)
    are_whole = are_numbers and all(isinstance(value, int) for value in distinct)
    if len(distinct) > 1 and are_numbers and not (are_whole and len(distinct) <= _FEW):
        places = [float(value) for value in values]
        low, high = min(places), max(places)
        if low > 0 and high >= _WIDE * low and np.median(places) < (low + high) / 4:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        return places
    labels = [
        f"{value:.3g}" if isinstance(value, float) else f"{value!s:.14}" for value in distinct
    ]
    axes.set_xticks(range(len(distinct)), labels)
    axes.set_xlim(-0.6, len(distinct) - 0.4)
    # spread by the golden ratio, so that equal values do not hide each other
    spread = [(number * 0.618 + 0.5) % 1 / 2 - 0.25 for number in range(len(values))]
    return [distinct.index(value) + aside for value, aside in zip(values, spread, strict=True)]


def _curve(axes: Axes, curve: Mapping[int, float], **look: Any) -> None:
    """Draw reports by epoch, a single one as a point."""
    epochs = sorted(curve)
    marker = "o" if len(epochs) == 1 else ""
    axes.plot(epochs, [curve[epoch] for epoch in epochs], marker=marker, markersize=3, **look)


def _figure(width: float, height: float, title: str, subtitle: str, *, pad: float = 0.1) -> Figure:
    """Make an empty figure with a title and a line of facts at its top left; sizes in inches."""
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, rect=(0, 0, 1, 1 - 0.6 / height))
    figure = Figure((width, height), dpi=_DPI, layout=layout)
    figure.text(
        0.12 / width, 1 - 0.12 / height, title, va="top", fontsize=13, weight="bold", color=_INK
    )
    figure.text(0.12 / width, 1 - 0.38 / height, subtitle, va="top", fontsize=10, color=_GREY)
    return figure


def _style(axes: Axes, grid: Literal["x", "y"]) -> None:
    """Leave of the frame what is needed to read a value."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_PALE)
    axes.tick_params(which="both", color=_PALE, labelcolor=_INK, labelsize=9)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _count_below(axes: Axes, name: str, first: int, last: int) -> None:
    """Count epochs or trials along the x axis, whole ones only."""
    axes.set_xlabel(name, color=_INK)
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _legend(axes: Axes, handles: Sequence[Artist] | None = None, *, n_columns: int = 2) -> None:
    """Put a legend above the axes, where it hides nothing."""
    if handles is None:
        handles = axes.get_legend_handles_labels()[0]
    if handles:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1)}
        axes.legend(handles=handles, ncols=n_columns, frameon=False, fontsize=9, **place)


def _note(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_GREY, fontsize=11
    )
