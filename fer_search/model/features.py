"""What frozen stages make of the pictures, computed once instead of in every epoch.

Where few stages train, most of an epoch is a forward pass through stages that do not change. So
each picture gets a few variants by the trial's augmentation, the first epochs compute the features
of one variant each, no slower than before, and later ones draw from them. Only the stages that
train, and the head, are computed then.
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
"""Of each picture, at most."""
FEWEST_VARIANTS = 2
"""Where memory has room for less, each epoch computes all stages."""
DEEPEST = 1
"""Most stages that train where this pays: with two, the rest of a VGG16 is hardly less work."""
MOST_BYTES = 2**30
"""For the features of the training pictures, in the precision of training."""


def trainer(
    model: keras.Model,
    config: TrialConfig,
    batches: Batches,
    train: Split,
    validation: Split,
    *,
    n_epochs: int,
) -> Trainer:
    """Choose what the epochs of a trial compute: all of the network, or what follows on features.

    Args:
        model: What `classifier.build` gave for `config`.
        config: Of the trial.
        batches: Of the pictures of `train`.
        train: To train on.
        validation: To validate on.
        n_epochs: Most that are to come; there must be more than variants, or nothing is won.
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
    """Tell whether it pays, and what is kept is what the stages would make of the pictures.

    On a GPU whole epochs are over before programs for the two parts are compiled. Mixup blends
    pictures anew in each epoch, and statistics that learn are not frozen. Balanced sampling repeats
    the rare pictures within an epoch, each time by another augmentation.
    """
    few = config.unfreeze_depth <= DEEPEST and not runtime.is_jax_on_gpu()
    anew = config.mixup or config.balanced_sampling
    return few and not anew and config.batch_norm != "trainable"


def _bytes_of(output: keras.KerasTensor, n: int) -> int:
    """Of `n` pictures' features."""
    each: int = math.prod(output.shape[1:]) * np.dtype(output.dtype).itemsize
    return n * each


def _features(
    frozen: keras.Model,
    images: np.ndarray | Mapped,
    varied: Sequence[keras.layers.Layer],
) -> np.ndarray:
    features = []
    for pixels, n in padded(images, min(PREDICTED_AT_ONCE, len(images))):
        # As an Input makes it: layers leave integers integers.
        batch = pixels[..., None].astype(np.float32)
        for layer in varied:  # outside of `frozen`, where prediction would draw the same each time
            batch = layer(batch, training=True)
        features.append(frozen.predict_on_batch(batch)[:n])
    return np.concatenate(features)
