"""What averaging over views of a picture brings: an evaluation for each number of views.

`workflows` logs these beside the plain metrics; no trial is ever chosen by them.
"""

from __future__ import annotations

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
