"""A stored model in use: its scores averaged over views, and its speed.

`workflows` logs the scores of views next to the plain metrics; no trial is ever chosen by them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from fer_search.model.training import evaluate
from fer_search.results import Evaluation
from fer_search.serving.predictor import VIEWS, each_view


def evaluate_views(
    model: keras.Model, images: np.ndarray, plain: Evaluation, views: int
) -> dict[int, Evaluation]:
    """Evaluate a model with each number of views up to `views`.

    Args:
        model: The model, from faces to probabilities.
        images: Shape (N, 48, 48), uint8.
        plain: The model's evaluation on the unchanged `images`.
        views: Largest number of views, one of `predictor.VIEWS`.

    Returns:
        Evaluations by number of views, for the numbers of `VIEWS` from 2 up to `views`.
    """
    evaluations = {}
    total = np.array(plain.probabilities)
    for number, view in enumerate(each_view(images, views), start=1):
        if number > 1:
            total += evaluate(model, view, plain.labels).probabilities
        if number > 1 and number in VIEWS:
            evaluations[number] = Evaluation(plain.labels, total / number)
    return evaluations


def milliseconds_in_turn(
    models: Sequence[Callable[[np.ndarray], np.ndarray]],
    faces: Sequence[np.ndarray],
    *,
    turns: int = 25,
) -> list[float]:
    """Time models in turn, so that a disturbance affects all of them.

    Args:
        models: Functions from faces to probabilities.
        faces: Input of each model, for example one image, (1, S, S, 1).
        turns: How often each model is timed, after a first call that compiles it.

    Returns:
        Median milliseconds of each model.
    """
    seconds = np.zeros((turns + 1, len(models)))
    for turn in seconds:
        for index, (model, given) in enumerate(zip(models, faces, strict=True)):
            began = time.perf_counter()
            model(given)
            turn[index] = time.perf_counter() - began
    return [float(median) for median in 1000 * np.median(seconds[1:], axis=0)]
