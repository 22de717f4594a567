"""The input of training and evaluation: images in batches of one shape.

Between a `Split` and the loops of `model/`: numpy only, so that every Keras backend can use it.
One shape per run means that a compiled training step is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.data.packing import Mapped


class Batches:
    """The batches of an epoch, in an order that seed and epoch determine.

    Images that do not fill a last batch are left out, different ones in each epoch. If there are
    fewer images than `batch_size`, all of them form the only batch.

    Args:
        images: Shape (N, H, W), uint8, N at least 1.
        labels: Shape (N,), int64, values in [0, 7).
        batch_size: Images per batch, at least 1.
        seed: Seed of the order and of mixup.
        class_weights: Weight per emotion, shape (7,); None gives all images the weight 1.
        balanced: Whether every emotion present occurs equally often: images of rare ones are
            repeated within an epoch, those of frequent ones differ between epochs.
        mixup: α of mixup, at least 0; with 0 no images are mixed.
    """

    def __init__(
        self,
        images: np.ndarray | Mapped,
        labels: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        class_weights: np.ndarray | None = None,
        balanced: bool = False,
        mixup: float = 0.0,
    ) -> None:
        self.batch_size = min(batch_size, len(labels))
        self._images = images
        self._labels = labels
        self._targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels]
        if class_weights is not None:
            self._targets *= class_weights
        self._seed = seed
        self._balanced = balanced
        self._mixup = mixup
        self.start_epoch(0)

    def __len__(self) -> int:
        return len(self._labels) // self.batch_size

    @property
    def n_images(self) -> int:
        """Number of images to choose from."""
        return len(self._labels)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for this epoch; the same epoch always has the same order."""
        self._epoch = epoch
        rng = np.random.default_rng((self._seed, epoch))
        n = len(self._labels)
        self._order = _balanced_order(self._labels, rng) if self._balanced else rng.permutation(n)

    def chosen(self, index: int) -> np.ndarray:
        """Return the images in a batch of the current epoch, as indices (B,) into all of them."""
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return one batch of the current epoch.

        Args:
            index: Number of the batch, in [0, len(self)).

        Returns:
            Images (B, H, W, 1) uint8, probabilities of the emotions to learn (B, 7) float32,
            one-hot unless mixed, and sample weights (B,) float32.
        """
        chosen = self.chosen(index)
        images, targets = self._images[chosen], self._targets[chosen]
        if self._mixup:
            rng = np.random.default_rng((self._seed, self._epoch, index))
            images, targets = _mixed(images, targets, self._mixup, rng)
        weights = targets.sum(axis=1)
        return images[..., None], targets / weights[:, None], weights


def _balanced_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw indices (N,) in which the counts of any two emotions differ by at most 1."""
    present = rng.permutation(np.unique(labels))
    shares = np.full(len(present), len(labels) // len(present))
    shares[: len(labels) % len(present)] += 1
    chosen = []
    for label, share in zip(present, shares, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
        chosen.append(np.concatenate([members[:0], *rounds])[:share])
    order: np.ndarray = rng.permutation(np.concatenate(chosen))
    return order


def _mixed(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Blend every image with another of its batch, and the targets likewise.

    Because targets carry the sample weights, the cross-entropy of the blend is that of its two
    parts, each with its own weight and share. Source: https://arxiv.org/abs/1710.09412.
    """
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    other = rng.permutation(len(images))
    of_pixels = share[:, None, None]
    blend = of_pixels * images + (1 - of_pixels) * images[other]
    both = share[:, None] * targets + (1 - share[:, None]) * targets[other]
    return blend.round().astype(np.uint8), both


def padded(inputs: np.ndarray | Mapped, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Iterate over all inputs once, in order, in full batches.

    The last batch repeats its last input until it is full.

    Args:
        inputs: Shape (N, …).
        batch_size: Inputs per batch, at least 1.

    Yields:
        Inputs (batch_size, …), and how many of them, from the first on, are real.
    """
    last = len(inputs) - 1
    for start in range(0, len(inputs), batch_size):
        chosen = np.arange(start, start + batch_size)
        yield inputs[np.minimum(chosen, last)], min(batch_size, len(inputs) - start)
