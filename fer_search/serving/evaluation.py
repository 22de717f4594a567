"""What a stored model is worth in use: how well it does with views averaged, and how fast it is.

`workflows` logs views beside the plain metrics; no trial is ever chosen by them.
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
    """Evaluate a model with as many views as `views`, and with fewer.

    Args:
        model: From faces to probabilities.
        images: Shape (N, 48, 48), uint8.
        plain: The model's evaluation on `images` as they are.
        views: The most; a number of `predictor.VIEWS`.

    Returns:
        Number of views to evaluation, for those numbers of `VIEWS` from 2 up to `views`.
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
    """Time models, each in its turn, so that what disturbs one disturbs all.

    Args:
        models: From faces to probabilities.
        faces: What each of them is given, e.g. one picture, (1, S, S, 1).
        turns: How often each model is timed, after a first time that compiles it.

    Returns:
        Median milliseconds by model.
    """
    seconds = np.zeros((turns + 1, len(models)))
    for turn in seconds:
        for index, (model, given) in enumerate(zip(models, faces, strict=True)):
            began = time.perf_counter()
            model(given)
            turn[index] = time.perf_counter() - began
    return [float(median) for median in 1000 * np.median(seconds[1:], axis=0)]
