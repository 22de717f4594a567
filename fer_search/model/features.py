"""What frozen stages make of the pictures, computed once instead of in every epoch.

Where few stages train, most of an epoch is a forward pass through stages that do not change. So
each picture gets a few variants by the trial's augmentation, the first epochs compute the features
of one variant each, no slower than before, and later ones draw from them. Only the stages that
train, and the head, are computed then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import numpy as np

from fer_search.data.batches import Batches, padded
from fer_search.data.splits import Split
from fer_search.model import augmentation, classifier
from fer_search.model.course import Course
from fer_search.trial_config import TrialConfig

VARIANTS = 4
"""Of each picture, at most."""
FEWEST_VARIANTS = 2
"""Where memory has room for less, each epoch computes all stages."""
DEEPEST = 1
"""Most stages that train where this pays: with two, the rest of a VGG16 is hardly less work."""
MOST_BYTES = 2**30
"""For the features of the training pictures, in the precision of training."""


def course(
    model: keras.Model,
    config: TrialConfig,
    batches: Batches,
    train: Split,
    validation: Split,
    *,
    keep: bool = True,
) -> Course:
    """Choose what the epochs of a trial compute.

    Args:
        model: What `classifier.build` gave for `config`.
        config: Of the trial.
        batches: Of the pictures of `train`.
        train: To train on.
        validation: To validate on.
        keep: Whether memory has room for features at all.
    """
    whole = Course(model, batches, validation.images[..., None])
    if not keep or not _is_possible(config):
        return whole
    frozen = classifier.frozen_part(model, config)
    known = _features(frozen, validation.images, [], 2 * batches.batch_size)
    bytes_each = known.nbytes * len(train.labels) // len(validation.labels)
    n_variants = min(VARIANTS, MOST_BYTES // bytes_each)
    if n_variants < FEWEST_VARIANTS:
        return whole
    varied = augmentation.build(config.augmentation, config.seed)
    return Course(
        classifier.training_part(model, config),
        _Variants(
            batches,
            lambda: _features(frozen, train.images, varied, 2 * batches.batch_size),
            n_variants,
            config.seed,
        ),
        known,
    )


class _Variants:
    """Batches of features: each picture in one of its variants.

    Args:
        batches: Of the pictures.
        compute: Gives the features of the next variant of all pictures.
        n_variants: How many are computed, one an epoch.
        seed: Of the draw.
    """

    def __init__(
        self, batches: Batches, compute: Callable[[], np.ndarray], n_variants: int, seed: int
    ) -> None:
        self.batch_size = batches.batch_size
        self._batches, self._compute = batches, compute
        self._n_variants, self._seed = n_variants, seed
        self._features: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._batches)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle, and compute the variants up to this epoch: after a stop, those before it too."""
        self._batches.start_epoch(epoch)
        while len(self._features) < min(epoch, self._n_variants):
            self._features.append(self._compute())
        n = self._batches.n_pictures
        drawn = np.random.default_rng((self._seed, epoch, 1)).integers(self._n_variants, size=n)
        self._variant = drawn if epoch > self._n_variants else np.full(n, epoch - 1)

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features (B, …), targets (B, 7) and sample weights (B,)."""
        chosen = self._batches.chosen(index)
        _, targets, weights = self._batches.batch(index)
        variants = self._variant[chosen]
        features = np.stack([self._features[v][i] for v, i in zip(variants, chosen, strict=True)])
        return features, targets, weights


def _is_possible(config: TrialConfig) -> bool:
    """Mixup blends pictures anew in each epoch; statistics that learn are not frozen."""
    few = config.unfreeze_depth <= DEEPEST
    return few and not config.mixup and config.batch_norm != "trainable"


def _features(
    frozen: keras.Model,
    images: np.ndarray,
    varied: Iterable[keras.layers.Layer],
    batch_size: int,
) -> np.ndarray:
    features = []
    for batch, n in padded(images[..., None], min(batch_size, len(images))):
        for layer in varied:  # outside of `frozen`, where prediction would draw the same each time
            batch = layer(batch, training=True)
        features.append(frozen.predict_on_batch(batch)[:n])
    return np.concatenate(features)
