"""One epoch: training on all batches, then validation.

`training` calls `run` for each epoch of a trial. Every epoch is a separate call, so that what
happens between epochs (pruning, another learning rate, averaged weights) needs no callback.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import keras
import numpy as np

from fer_search.data.batches import padded
from fer_search.errors import TrialFailed
from fer_search.model.optimizers import TrialOptimizer
from fer_search.model.trainer import Trainer
from fer_search.results import EpochMetrics, Evaluation

OnBatch = Callable[[int, int, int], None]

PREDICTED_AT_ONCE = 256
"""Batch size for prediction, whatever trials train with: one shape to compile."""


def run(
    model: keras.Model,
    trainer: Trainer,
    optimizer: TrialOptimizer,
    labels: np.ndarray,
    *,
    epoch: int,
    on_batch: OnBatch | None,
) -> tuple[EpochMetrics, list[np.ndarray]]:
    """Train one epoch, then validate in the same precision.

    Args:
        model: The network.
        trainer: Its trainer, compiled with `optimizer`.
        optimizer: The trial's optimizer. If it averages weights, the averages are validated.
        labels: Labels of the validation images, at least one.
        epoch: Number of the epoch, from 1.
        on_batch: Called after each batch, or after several at a time on a GPU, with the epoch and
            batch, counted from 1, and the number of batches.

    Returns:
        The metrics of the epoch, and the weights that were validated.

    Raises:
        TrialFailed: If the loss is no longer finite.
    """
    batches, started = trainer.batches, time.perf_counter()
    batches.start_epoch(epoch)
    preparing = time.perf_counter() - started
    watch = _Watch(epoch, len(batches), on_batch)
    loss, accuracy = trainer.train(epoch, watch)
    seconds = time.perf_counter() - watch.clock_started
    seconds += preparing * watch.n_clocked / len(batches)
    check_finite(loss, epoch)
    with optimizer.averaged():
        weights = model.get_weights()
        probabilities = predict(trainer.model, trainer.validation)
    check_finite(probabilities.sum(), epoch)
    evaluation = Evaluation(labels, probabilities)
    metrics = EpochMetrics(
        epoch=epoch,
        loss=loss,
        accuracy=accuracy,
        val_loss=evaluation.loss,
        val_accuracy=evaluation.accuracy,
        val_macro_f1=evaluation.macro_f1,
        learning_rate=optimizer.rate,
        images_per_second=watch.n_clocked * batches.batch_size / seconds,
    )
    return metrics, weights


def predict(
    model: keras.Model, inputs: np.ndarray, batch_size: int = PREDICTED_AT_ONCE
) -> np.ndarray:
    """Predict in batches of one shape, so that nothing is compiled for an incomplete last batch.

    Args:
        model: A network from faces to probabilities, as `classifier` builds it, or a part of one.
        inputs: Shape (N, …), N at least 1; (N, 48, 48, 1), uint8, for faces.
        batch_size: Inputs per batch.

    Returns:
        The outputs, shape (N, 7) for probabilities.
    """
    batch_size = min(batch_size, len(inputs))
    return np.concatenate(
        [model.predict_on_batch(batch)[:n] for batch, n in padded(inputs, batch_size)]
    )


class _Watch:
    """Times an epoch, reports its batches, and ends it when the loss is no longer finite."""

    def __init__(self, epoch: int, n_batches: int, on_batch: OnBatch | None) -> None:
        self._epoch = epoch
        self._n_batches = n_batches
        self._on_batch = on_batch
        self.n_clocked = n_batches
        self.clock_started = time.perf_counter()

    def __call__(self, n_done: int, loss: float) -> None:
        """Take note of the number of batches so far, at least one, and their mean loss."""
        check_finite(loss, self._epoch)
        if self.n_clocked == self._n_batches and n_done < self._n_batches:
            # The first call is not timed if others follow: it may include compilation.
            self.n_clocked -= n_done
            self.clock_started = time.perf_counter()
        if self._on_batch:
            self._on_batch(self._epoch, n_done, self._n_batches)


def check_finite(value: float, epoch: int) -> None:
    """Fail the trial if a number is not finite.

    Raises:
        TrialFailed: If `value` is not finite.
    """
    if not math.isfinite(value):
        raise TrialFailed(
            "not_finite",
            f"epoch {epoch}: expected a finite number, got {float(value)}",
            hint="try a smaller learning rate, or precision=float32",
        )
