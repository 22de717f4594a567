"""Figures of models on the same test images, such as candidate and champion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fer_search.config import EMOTIONS
from fer_search.figures import style
from fer_search.results import Evaluation

_MOST_IMAGES = 12
"""Most images in each row of `disagreements`."""


def confusion_matrices(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw confusion matrices side by side, as shares of the true emotion.

    Args:
        evaluations: Evaluations by the name of the model.
    """
    n_images = style.counted(len(next(iter(evaluations.values())).labels), "test image")
    width = 0.8 + 5.2 * len(evaluations)
    figure = style.new_figure(width, 5.6, "Confusion matrices", n_images)
    for axes, (name, evaluation) in zip(
        figure.subplots(1, len(evaluations), squeeze=False)[0], evaluations.items(), strict=True
    ):
        counts = evaluation.confusion
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            ink = "white" if share > 0.6 else style.INK
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color=ink, fontsize=9)
        axes.set_title(
            f"{name}: accuracy {evaluation.accuracy:.3f}, macro-F1 {evaluation.macro_f1:.3f}",
            fontsize=10, color=style.INK,
        )  # fmt: skip
        axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
        axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
        axes.tick_params(length=0, labelsize=9, labelcolor=style.INK)
        axes.set_xlabel("predicted emotion", color=style.INK)
        axes.set_ylabel("true emotion", color=style.INK)
        axes.spines[:].set_visible(False)
    return figure


def f1_intervals(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw every emotion's F1 and the macro-F1 of each model, with 95 % intervals.

    Args:
        evaluations: Evaluations by the name of the model, one to six.
    """
    figure = style.new_figure(8, 4.6, "F1 on test", "points with 95 % intervals")
    axes = figure.subplots()
    style.plain(axes, grid="x")
    rows = [*(f"f1_{name}" for name in EMOTIONS), "macro_f1"]
    places = np.arange(len(rows))
    offsets = np.linspace(-0.16, 0.16, len(evaluations)) if len(evaluations) > 1 else [0.0]
    for (name, evaluation), offset, color in zip(
        evaluations.items(), offsets, style.SERIES, strict=False
    ):
        values = np.array([evaluation.metrics("test")[f"test_{row}"] for row in rows])
        low, high = np.array([evaluation.intervals()[row] for row in rows]).T
        errors = np.clip([values - low, high - values], 0, None)
        axes.errorbar(
            values, places + offset, xerr=errors, fmt="o", markersize=5, color=color, label=name,
            elinewidth=1.6, clip_on=False,
        )  # fmt: skip
    axes.axhline(len(EMOTIONS) - 0.5, color=style.PALE, linewidth=0.8)
    axes.set_yticks(places, [*EMOTIONS, "macro-F1"])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0, labelsize=10, pad=7)
    axes.set_xlabel("F1", color=style.INK)
    if len(evaluations) > 1:
        style.legend(axes)
    return figure


def disagreements(images: np.ndarray, evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw test images on which exactly one of two models is right, the most confident first.

    Args:
        images: Shape (N, H, W), uint8.
        evaluations: Evaluations of two models, by their names.
    """
    names = list(evaluations)
    hits = {name: each.predictions == each.labels for name, each in evaluations.items()}
    shown = {}
    for winner, loser in (names, reversed(names)):
        alone = np.flatnonzero(hits[winner] & ~hits[loser])
        sure = evaluations[winner].probabilities.max(axis=1)[alone]
        shown[winner] = (loser, alone[np.argsort(-sure, kind="stable")])
    facts = ", ".join(f"{len(alone):,} only by {winner}" for winner, (_, alone) in shown.items())
    figure = style.new_figure(
        14, 4.6, "Where the models differ", f"recognised {facts}; most confident first", pad=0.04
    )
    halves: Any = figure.subfigures(2, 1)
    for half, (winner, (loser, alone)) in zip(halves, shown.items(), strict=True):
        half.suptitle(
            f"right: {winner}", x=0.01, ha="left", fontsize=10, weight="bold", color=style.INK
        )
        row = half.subplots(1, _MOST_IMAGES)
        for axes in row:
            axes.set_axis_off()
        for axes, index in zip(row, alone[:_MOST_IMAGES], strict=False):
            axes.imshow(images[index], cmap="gray", vmin=0, vmax=255)
            right, wrong = (
                EMOTIONS[evaluations[name].predictions[index]] for name in (winner, loser)
            )
            axes.set_title(f"{right}\nnot {wrong}", fontsize=9, color=style.INK)
    return figure
