"""Features after the frozen stages, computed once instead of in every epoch.

When few stages train, most of an epoch is a forward pass through stages that do not change. So the
trial's augmentation makes a few variants of each image. The first epochs compute the features of
one variant each, no slower than otherwise; later epochs draw from them, and compute only the
trainable stages and the head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from fer_search import runtime
from fer_search.data.batches import Batches, padded
from fer_search.data.packing import Mapped
from fer_search.data.splits import Split
from fer_search.model import augmentation, classifier
from fer_search.model.epochs import PREDICTED_AT_ONCE
from fer_search.model.trainer import Trainer
from fer_search.trial_config import TrialConfig

VARIANTS = 4
"""Most variants of each image."""
FEWEST_VARIANTS = 2
"""If memory has room for fewer, each epoch computes all stages."""
DEEPEST = 1
"""Most trainable stages for which this pays: with two, the rest of VGG16 is hardly less work."""
MOST_BYTES = 2**30
"""Memory limit for the features of the training images, in the training precision."""


def trainer(
    model: keras.Model,
    config: TrialConfig,
    batches: Batches,
    train: Split,
    validation: Split,
    *,
    n_epochs: int,
) -> Trainer:
    """Choose what the epochs of a trial compute: the whole network, or its part after the features.

    Args:
        model: The network that `classifier.build` returned for `config`.
        config: The trial's hyperparameters.
        batches: Batches of the images in `train`.
        train: The training set.
        validation: The validation set.
        n_epochs: Most epochs to come; unless they outnumber the variants, nothing is gained.
    """
    whole = Trainer(model, batches, validation.images[..., None])
    if not _is_possible(config):
        return whole
    frozen, training = classifier.cut(model, config)
    varied = augmentation.build(config.augmentation, config.seed)
    n_variants = min(VARIANTS, MOST_BYTES // _bytes_of(frozen.output, len(train.labels)))
    if not varied:
        n_variants = min(1, n_variants)
    if n_variants < (FEWEST_VARIANTS if varied else 1) or n_variants >= n_epochs:
        return whole
    return Trainer(
        training,
        _Variants(
            batches,
            lambda: _features(frozen, train.mapped, varied),
            n_variants,
            config.seed,
        ),
        _features(frozen, validation.images, []),
    )


class _Variants:
    """Batches of features: each image in one of its variants.

    Args:
        batches: Batches of the images.
        compute: Returns the features of the next variant of all images.
        n_variants: Number of variants to compute, one per epoch.
        seed: Seed of the draw.
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
        """Shuffle, and compute the variants up to this epoch: after a restart, earlier ones too."""
        self._batches.start_epoch(epoch)
        while len(self._features) < min(epoch, self._n_variants):
            self._features.append(self._compute())
        n = self._batches.n_images
        drawn = np.random.default_rng((self._seed, epoch, 1)).integers(self._n_variants, size=n)
        self._variant = drawn if epoch > self._n_variants else np.full(n, epoch - 1)

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features (B, …), targets (B, 7) and sample weights (B,)."""
        chosen = self._batches.chosen(index)
        _, targets, weights = self._batches.batch(index)
        variants = self._variant[chosen]
        features = np.stack([self._features[v][i] for v, i in zip(variants, chosen, strict=True)])
        return features, targets, weights


def _is_possible(config: TrialConfig) -> bool:
    """Tell whether keeping features pays and they are what the stages would compute anyway.

    On a GPU, JAX finishes whole epochs before programs for the two parts are compiled. Mixup blends
    images differently in each epoch, and statistics that learn are not frozen. Balanced sampling
    repeats rare images within an epoch, each time with another augmentation.
    """
    few = config.unfreeze_depth <= DEEPEST and not runtime.is_jax_on_gpu()
    varies = config.mixup or config.balanced_sampling
    return few and not varies and config.batch_norm != "trainable"


def _bytes_of(output: keras.KerasTensor, n: int) -> int:
    """Count the bytes of the features of `n` images."""
    each: int = math.prod(output.shape[1:]) * np.dtype(output.dtype).itemsize
    return n * each


def _features(
    frozen: keras.Model,
    images: np.ndarray | Mapped,
    varied: Sequence[keras.layers.Layer],
) -> np.ndarray:
    features = []
    for pixels, n in padded(images, min(PREDICTED_AT_ONCE, len(images))):
        # Cast as an Input would: layers keep integers as integers.
        batch = pixels[..., None].astype(np.float32)
        for layer in varied:  # outside `frozen`, where prediction would draw the same each time
            batch = layer(batch, training=True)
        features.append(frozen.predict_on_batch(batch)[:n])
    return np.concatenate(features)
