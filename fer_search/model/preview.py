"""What the network saw: some training images and how this trial's augmentation varied them."""

from __future__ import annotations

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.data.packing import Mapped
from fer_search.model import augmentation
from fer_search.trial_config import TrialConfig

N_VARIANTS = 4


def preview(
    config: TrialConfig, images: np.ndarray | Mapped, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Augment one image of each emotion a few times.

    Args:
        config: The trial's hyperparameters.
        images: Shape (N, 48, 48), uint8.
        labels: Shape (N,), every emotion at least once.

    Returns:
        `originals` (7, 48, 48) uint8, `augmented` (4, 7, 48, 48) uint8, and `labels` (7,).
    """
    chosen = np.array([np.flatnonzero(labels == label)[0] for label in range(len(EMOTIONS))])
    originals = images[chosen]
    batch = np.repeat(originals[None], N_VARIANTS, axis=0).reshape(-1, *originals.shape[1:], 1)
    varied = batch.astype(np.float32)
    for layer in augmentation.build(config.augmentation, config.seed):
        varied = layer(varied, training=True)
    pixels = np.clip(np.asarray(varied), 0, 255).round().astype(np.uint8)
    augmented = pixels.reshape(N_VARIANTS, *originals.shape)
    return {"originals": originals, "augmented": augmented, "labels": labels[chosen]}
