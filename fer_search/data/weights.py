"""Class weights against the imbalance of the emotions, for the batches of training."""

from __future__ import annotations

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.errors import DataError


def class_weights(labels: np.ndarray, power: float) -> np.ndarray:
    """Weigh each emotion by its frequency to the power of `-power`.

    Weights are scaled so that their mean over the samples is 1, so the loss keeps its scale.
    `power` 0 gives 1 for every emotion, 1 gives scikit-learn's "balanced" weights.

    Args:
        labels: Emotion per sample, shape (N,), values in [0, 7).
        power: Strength of the correction, in [0, 1].

    Returns:
        Weight per emotion, shape (7,), float32.

    Raises:
        DataError: If an emotion has no sample.
    """
    counts = np.bincount(labels, minlength=len(EMOTIONS))
    if not counts.all():
        missing = [name for name, count in zip(EMOTIONS, counts, strict=True) if count == 0]
        raise DataError(f"no class weight for {', '.join(missing)}: no training images of it")
    raw = counts.astype(np.float64) ** -power
    weights: np.ndarray = raw * (counts.sum() / (raw @ counts))
    return weights.astype(np.float32)
