"""What training and evaluation are fed: pictures in batches of one shape.

Between a `Split` and the loops of `model/`: numpy only, so that every Keras backend can use it.
One shape per run means that a compiled training step is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class Batches:
    """The batches of an epoch, in an order of its own that seed and epoch determine.

    The rest that does not fill a batch is left out; each epoch leaves out others. If there are
    fewer pictures than `batch_size`, all of them are the one batch.

    Args:
        images: Shape (N, H, W), uint8, N at least 1.
        labels: Shape (N,), int64.
        batch_size: Pictures per batch, at least 1.
        seed: Of the order.
        class_weights: Weight per emotion, shape (7,); None weighs all pictures 1.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        class_weights: np.ndarray | None = None,
    ) -> None:
        self.batch_size = min(batch_size, len(labels))
        self._images = images
        self._labels = labels
        self._weights = (
            np.ones(len(labels), np.float32) if class_weights is None else class_weights[labels]
        )
        self._seed = seed
        self.start_epoch(0)

    def __len__(self) -> int:
        return len(self._labels) // self.batch_size

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for this epoch; the same epoch always has the same order."""
        rng = np.random.default_rng((self._seed, epoch))
        self._order = rng.permutation(len(self._labels))

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give one batch of the current epoch.

        Args:
            index: In [0, len(self)).

        Returns:
            Images (B, H, W, 1) uint8, labels (B,) int64, sample weights (B,) float32.
        """
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return self._images[chosen][..., None], self._labels[chosen], self._weights[chosen]


def padded(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Go through all pictures once, in order, in full batches.

    The last batch repeats its last picture until it is full.

    Args:
        images: Shape (N, H, W), uint8.
        batch_size: Pictures per batch, at least 1.

    Yields:
        Images (batch_size, H, W, 1) uint8, and how many of them, from the first on, are real.
    """
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size, ..., None]
        missing = batch_size - len(batch)
        yield np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge"), len(batch)
