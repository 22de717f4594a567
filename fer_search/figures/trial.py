"""Figures of one evaluation and of one trial: data in, `Figure` out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fer_search.comparison import reliability
from fer_search.config import EMOTIONS
from fer_search.figures import style
from fer_search.results import EpochMetrics, Evaluation

_GAP = 4
"""Pixels between images side by side."""


def confusion_matrix(evaluation: Evaluation, title: str) -> Figure:
    """Draw which emotions are taken for which, and how often.

    Each cell has the number of images and their share of the true emotion, which also colours it.
    Beside each row are the emotion's number of images, recall and F1.
    """
    counts, n_classes = evaluation.confusion, len(EMOTIONS)
    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, np.newaxis]
    figure = style.new_figure(8, 6.4, title, _headline(evaluation))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        ink = "white" if share > 0.6 else style.INK
        axes.text(column, row - 0.12, f"{count:,}", color=ink, fontsize=11, **middle)
        if support[row]:
            axes.text(column, row + 0.24, f"{share:.0%}", color=ink, fontsize=8, **middle)
    beside = {
        "images": [f"{n:,}" for n in support],
        "recall": [
            f"{r:.2f}" if n else "–" for r, n in zip(evaluation.recall, support, strict=True)
        ],
        "F1": [f"{f1:.2f}" for f1 in evaluation.f1],
    }
    for place, (name, texts) in enumerate(beside.items()):
        column = n_classes + 0.1 + 0.85 * place
        axes.text(column, -0.7, name, color=style.GREY, fontsize=10, **middle)
        for row, text in enumerate(texts):
            axes.text(column, row, text, color=style.INK, fontsize=10, **middle)
    axes.set_xlim(-0.5, n_classes + 2.2)
    axes.set_xticks(range(n_classes), EMOTIONS)
    axes.set_yticks(range(n_classes), EMOTIONS)
    axes.hlines(np.arange(n_classes - 1) + 0.5, -0.5, n_classes - 0.5, "white", linewidth=1.5)
    axes.vlines(np.arange(n_classes - 1) + 0.5, -0.5, n_classes - 0.5, "white", linewidth=1.5)
    axes.tick_params(length=0, labelsize=10, labelcolor=style.INK)
    axes.set_xlabel("predicted emotion", color=style.INK, x=n_classes / (n_classes + 2.7) / 2)
    axes.set_ylabel("true emotion", color=style.INK)
    axes.spines[:].set_visible(False)
    return figure


def per_emotion_f1(evaluation: Evaluation, title: str) -> Figure:
    """Draw the F1 of every emotion as a bar, with the number of its images."""
    figure = style.new_figure(8, 3.8, title, _headline(evaluation))
    axes = figure.subplots()
    style.plain(axes, grid="x")
    axes.axvline(evaluation.macro_f1, color=style.ORANGE, linestyle="--", linewidth=1.2, zorder=1)
    axes.text(evaluation.macro_f1, -0.85, "macro-F1", color=style.ORANGE, ha="center", fontsize=9)
    axes.barh(EMOTIONS, evaluation.f1, color=style.BLUE, height=0.62)
    for row, f1 in enumerate(evaluation.f1):
        ground = {"color": "white", "pad": 1.5}
        axes.text(
            f1 + 0.012, row, f"{f1:.2f}", va="center", color=style.INK, fontsize=10, bbox=ground
        )
    for row, support in enumerate(evaluation.confusion.sum(axis=1)):
        said = style.counted(support, "image")
        axes.text(1.29, row, said, va="center", ha="right", color=style.GREY, fontsize=9)
    axes.set_xlim(0, 1.3)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_ylim(len(EMOTIONS) - 0.5, -0.7)
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.set_xlabel("F1", color=style.INK)
    return figure


def calibration(evaluation: Evaluation, title: str) -> Figure:
    """Draw a model's accuracy by its confidence, and how many images have which confidence."""
    bins = reliability(evaluation)
    figure = style.new_figure(
        8,
        4.0,
        title,
        f"expected calibration error {bins.error:.3f}  ·  "
        f"{style.counted(len(evaluation.labels), 'image')}",
    )
    left, right = figure.subplots(1, 2)
    some = bins.images > 0
    style.plain(left, grid="y")
    left.plot([0, 1], [0, 1], color=style.GREY, linestyle="--", linewidth=1, label="ideal")
    left.plot(
        bins.sure[some],
        bins.right[some],
        color=style.BLUE,
        marker="o",
        markersize=4,
        label="model",
        clip_on=False,
    )
    left.set_ylabel("accuracy", color=style.INK)
    left.set_ylim(0, 1)
    style.legend(left)
    style.plain(right, grid="y")
    edges = np.arange(len(bins.images)) / len(bins.images)
    right.bar(edges, bins.images, width=edges[1] * 0.9, align="edge", color=style.BLUE)
    right.set_ylabel("images", color=style.INK)
    for axes in (left, right):
        axes.set_xlim(0, 1)
        axes.set_xlabel("probability of the predicted emotion", color=style.INK)
    return figure


def learning_curves(epochs: Sequence[EpochMetrics], best_epoch: int | None) -> Figure:
    """Draw loss and scores over the epochs.

    Args:
        epochs: Metrics of the epochs, in order; up to 30 are also drawn as points.
        best_epoch: Epoch whose weights were kept, counted from 1; None to mark none.
    """
    best = next((epoch for epoch in epochs if epoch.epoch == best_epoch), None)
    figure = style.new_figure(
        9,
        4.2,
        "Learning curves",
        f"best epoch {best.epoch}: {style.OBJECTIVE} {best.val_macro_f1:.3f}" if best else "",
    )
    panels: dict[str, dict[str, tuple[list[float], str]]] = {
        "loss (nats per image)": {
            "training": ([epoch.loss for epoch in epochs], style.GREY),
            "validation": ([epoch.val_loss for epoch in epochs], style.BLUE),
        },
        "score": {
            "training accuracy": ([epoch.accuracy for epoch in epochs], style.GREY),
            "validation accuracy": ([epoch.val_accuracy for epoch in epochs], style.BLUE),
            "validation macro-F1": ([epoch.val_macro_f1 for epoch in epochs], style.ORANGE),
        },
    }
    numbers = [epoch.epoch for epoch in epochs]
    marker = "o" if len(epochs) <= 30 else ""
    for axes, (name, curves) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        style.plain(axes, grid="y")
        for label, (values, color) in curves.items():
            axes.plot(numbers, values, color=color, label=label, marker=marker, markersize=3.5)
        if best:
            axes.axvline(
                best.epoch, color=style.INK, linestyle=":", linewidth=1.2, label="best epoch"
            )
        axes.set_ylabel(name, color=style.INK)
        style.count_below(axes, "epoch", 1, max(numbers, default=1))
        if epochs:
            style.legend(axes)
        else:
            style.note(axes, "no epochs yet")
    return figure


def augmentation(originals: np.ndarray, augmented: np.ndarray, labels: np.ndarray) -> Figure:
    """Draw training images above what the network saw of them.

    Args:
        originals: Shape (N, H, W), in [0, 255], N at least 1.
        augmented: K variations of each, shape (K, N, H, W), in [0, 255].
        labels: Emotion per image, shape (N,), values in [0, 7).

    Raises:
        ValueError: If the shapes do not match or there are no images.
    """
    n_images = len(originals)
    if not n_images or augmented.shape[1:2] != (n_images,) or labels.shape != (n_images,):
        raise ValueError(
            "expected originals (N, H, W), augmented (K, N, H, W) and labels (N,) with N at least "
            f"1, got {originals.shape}, {augmented.shape} and {labels.shape}"
        )
    images = np.stack([originals, *augmented])
    n_rows, _, height, width = images.shape
    figure = style.new_figure(
        max(1.05 * n_images + 0.7, 5),
        1.05 * n_rows + 1,
        "What the network saw",
        f"training images and {style.counted(len(augmented), 'random variation')} of each",
    )
    axes = figure.subplots()  # only one: each takes ten milliseconds to draw
    framed = np.pad(images, ((0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=255)
    sheet = framed.swapaxes(1, 2).reshape(n_rows * (height + _GAP), -1)[:-_GAP, :-_GAP]
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    columns = np.arange(n_images) * (width + _GAP) + (width - 1) / 2
    axes.set_xticks(columns, [EMOTIONS[label] for label in labels], fontsize=10, color=style.INK)
    said = ("original", "augmented")[:n_rows]
    rows = np.arange(len(said)) * (height + _GAP) + (height - 1) / 2
    axes.set_yticks(rows, said, rotation=90, va="center", fontsize=10, color=style.INK)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def _headline(evaluation: Evaluation) -> str:
    return (
        f"accuracy {evaluation.accuracy:.3f}  ·  macro-F1 {evaluation.macro_f1:.3f}  ·  "
        f"{style.counted(len(evaluation.labels), 'image')}"
    )
