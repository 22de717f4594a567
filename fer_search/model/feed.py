"""How batches reach Keras's `fit`.

TensorFlow's pipelines have a tuner, disabled here: it is of no use, and when an epoch ends, `fit`
waits until the tuner next wakes up. It sleeps twice as long each time, up to a minute, so that up
to half of a short epoch, and up to a minute of a long one, would be idle time.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import keras
import numpy as np

_AHEAD = 2
"""Batches prepared while the network trains on another."""


class Feed(Protocol):
    """Batches of an epoch, all of one shape."""

    batch_size: int

    def __len__(self) -> int: ...

    def start_epoch(self, epoch: int) -> None:
        """Prepare for this epoch."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inputs (B, …), targets (B, 7) and sample weights (B,)."""


def as_dataset(feed: Feed) -> Any:
    """Wrap a feed for Keras; each pass over the result gives the batches of its current epoch.

    Args:
        feed: A feed whose first epoch has started.

    Returns:
        Data for `Model.fit`: a `tf.data.Dataset`, or a `PyDataset` for the other backends.
    """
    return _pipeline(feed) if keras.backend.backend() == "tensorflow" else _Sequence(feed)


def _pipeline(feed: Feed) -> Any:
    import tensorflow as tf

    like, weak = feed.batch(0), weakref.proxy(feed)  # TensorFlow keeps the function for a long time

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
