"""How batches reach Keras's `fit`.

TensorFlow would be fed by a pipeline with a tuner, which is of no use here and in the way: when an
epoch ends, `fit` waits until the tuner wakes up the next time. It sleeps twice as long each time,
up to a minute, so that of short epochs up to half, and of long ones up to a minute, went by idle.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import keras
import numpy as np

_AHEAD = 2
"""Batches that are made while the network trains on another."""


class Feed(Protocol):
    """Batches of an epoch, all of one shape."""

    batch_size: int

    def __len__(self) -> int: ...

    def start_epoch(self, epoch: int) -> None:
        """Get ready for this epoch."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs (B, …), targets (B, 7) and sample weights (B,)."""


def as_dataset(feed: Feed) -> Any:
    """Give the batches to Keras, epoch after epoch: each time as the feed then has them.

    Args:
        feed: Whose first epoch has started.

    Returns:
        What `Model.fit` takes: a `tf.data.Dataset`, or a `PyDataset` for the other backends.
    """
    return _pipeline(feed) if keras.backend.backend() == "tensorflow" else _Sequence(feed)


def _pipeline(feed: Feed) -> Any:
    import tensorflow as tf

    like, weak = feed.batch(0), weakref.proxy(feed)  # TensorFlow keeps the function for long

    def batch(index: Any) -> Any:
        kinds = [array.dtype for array in like]
        arrays = tf.numpy_function(lambda i: weak.batch(i), [index], kinds)
        return tuple(tf.ensure_shape(a, b.shape) for a, b in zip(arrays, like, strict=True))

    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    return tf.data.Dataset.range(len(feed)).map(batch).prefetch(_AHEAD).with_options(untuned)


class _Sequence(keras.utils.PyDataset):
    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed

    def __len__(self) -> int:
        return len(self._feed)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._feed.batch(index)
