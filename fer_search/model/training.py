"""The training of one trial: a config and pictures in, a model and its numbers out.

`workflows.worker` calls `train` for each trial and hears of every epoch through `on_epoch`; what
is recorded, reported or pruned there is unknown here.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

from fer_search import runtime
from fer_search.config import EMOTIONS, TrialConfig
from fer_search.data.batches import Batches, padded
from fer_search.data.weights import class_weights
from fer_search.errors import TrialFailed
from fer_search.model import classifier, optimizers
from fer_search.results import EpochMetrics, Evaluation, TrialResult

if TYPE_CHECKING:
    from fer_search.data.splits import Split, Splits

OnEpoch = Callable[[EpochMetrics], None]
OnBatch = Callable[[int, int, int], None]

_CALIBRATE_ON = 256
"""Training pictures from which the features are standardised before the first step."""
_CHECK_EVERY = 50
"""Batches between two looks at the loss; each look makes a GPU wait."""


def train(
    config: TrialConfig, splits: Splits, *, on_epoch: OnEpoch, on_batch: OnBatch | None = None
) -> tuple[keras.Model, TrialResult]:
    """Train one trial and evaluate the weights of its best epoch.

    The same config and pictures give the same result on a CPU, up to the order in which floats
    are summed. Keras is used as `runtime.configure` has set it up in this thread.

    Args:
        config: Of the trial.
        splits: Trained on `train`, chosen on `validation`; `test` is not touched.
        on_epoch: Called after each epoch. Whatever it raises ends the training and passes through.
        on_batch: Called after each batch with epoch, batch and number of batches, from 1.

    Returns:
        The model to store (see `classifier.inference_copy`) with the weights of the best epoch,
        and what it came to.

    Raises:
        TrialFailed: If the loss is no longer finite, or memory does not suffice.
        WeightsError: If the pretrained weights can not be had, or are of another network.
        DataError: If an emotion has no training pictures.
    """
    validation = splits.validation
    epochs: list[EpochMetrics] = []
    with _memory_permitting(config):
        _start_afresh(config.seed)
        batches = _batches(config, splits.train)
        model = _compiled(config, steps=config.epochs * len(batches))
        classifier.calibrate(model, _some_faces(splits.train, config.seed))
    started = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        with _memory_permitting(config):
            metrics = _epoch(model, batches, validation, epoch=epoch, on_batch=on_batch)
            epochs.append(metrics)
            best = max(epochs, key=lambda epoch: epoch.val_macro_f1)  # the first of equals
            if best is metrics:
                weights = model.get_weights()
        on_epoch(metrics)
        if epoch - best.epoch >= config.patience:
            break
    seconds = time.perf_counter() - started
    with _memory_permitting(config):
        model.set_weights(weights)
        stored = classifier.inference_copy(model, config)
        result = TrialResult(
            epochs=tuple(epochs),
            best_epoch=best.epoch,
            validation=evaluate(stored, validation.images, validation.labels),
            train_seconds=seconds,
            model_parameters=stored.count_params(),
        )
    return stored, result


def evaluate(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int = 256
) -> Evaluation:
    """Hold the predictions of a model against the labels.

    Args:
        model: From faces to probabilities, as `classifier` builds it.
        images: Shape (N, 48, 48), uint8, N at least 1.
        labels: Shape (N,), values in [0, 7).
        batch_size: Pictures at a time.

    Raises:
        ValueError: If shapes or labels do not fit, or a probability is not finite.
    """
    return Evaluation(labels, _predict(model, images, batch_size))


def _start_afresh(seed: int) -> None:
    """Free what the last trial left in Keras and seed everything random."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()
    keras.config.set_dtype_policy(policy)  # the session took it along
    keras.utils.set_random_seed(seed)


def _batches(config: TrialConfig, split: Split) -> Batches:
    return Batches(
        split.images,
        split.labels,
        batch_size=config.batch_size,
        seed=config.seed,
        class_weights=class_weights(split.labels, config.class_weight_power),
    )


def _some_faces(split: Split, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(len(split.labels))[:_CALIBRATE_ON]
    return split.images[chosen]


def _compiled(config: TrialConfig, *, steps: int) -> keras.Model:
    model = classifier.build(config)
    model.compile(
        optimizer=optimizers.create(config, model, steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        jit_compile=runtime.jit_compile(),
    )
    return model


def _epoch(
    model: keras.Model,
    batches: Batches,
    validation: Split,
    *,
    epoch: int,
    on_batch: OnBatch | None,
) -> EpochMetrics:
    """Train one epoch, then validate in the same precision."""
    batches.start_epoch(epoch)
    watch = _Watch(epoch, len(batches), on_batch)
    history = model.fit(
        _Feed(batches),
        initial_epoch=epoch - 1,
        epochs=epoch,
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    ).history
    seconds = time.perf_counter() - watch.clock_started
    (loss,), (accuracy,) = history["loss"], history["accuracy"]
    _insist_on_finite(loss, epoch)
    probabilities = _predict(model, validation.images, 2 * batches.batch_size)
    _insist_on_finite(probabilities.sum(), epoch)
    evaluation = Evaluation(validation.labels, probabilities)
    return EpochMetrics(
        epoch=epoch,
        loss=loss,
        accuracy=accuracy,
        val_loss=evaluation.loss,
        val_accuracy=evaluation.accuracy,
        val_macro_f1=evaluation.macro_f1,
        learning_rate=float(model.optimizer.learning_rate),
        images_per_second=watch.n_clocked * batches.batch_size / seconds,
    )


def _predict(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Probabilities (N, 7) in batches of one shape, so that nothing is compiled for the rest."""
    batch_size = min(batch_size, len(images))
    return np.concatenate(
        [model.predict_on_batch(batch)[:n] for batch, n in padded(images, batch_size)]
    )


class _Feed(keras.utils.PyDataset):
    """`Batches` as Keras wants them, with labels one-hot."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches
        self._one_hot = np.eye(len(EMOTIONS), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, labels, weights = self._batches.batch(index)
        return images, self._one_hot[labels], weights


class _Watch(keras.callbacks.Callback):
    """Clocks an epoch, tells of its batches, and ends it when the loss is lost."""

    def __init__(self, epoch: int, n_batches: int, on_batch: OnBatch | None) -> None:
        super().__init__()
        self._epoch = epoch
        self._n_batches = n_batches
        self._on_batch = on_batch
        # The first batch is not clocked where there are others: it may include compiling.
        self.n_clocked = max(1, n_batches - 1)
        self.clock_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Hear of a batch, counted from 0; `logs` has the mean loss of the epoch so far."""
        if batch % _CHECK_EVERY == 0:
            _insist_on_finite(logs["loss"], self._epoch)
        if batch == 0 and self._n_batches > 1:
            self.clock_started = time.perf_counter()
        if self._on_batch:
            self._on_batch(self._epoch, batch + 1, self._n_batches)


def _insist_on_finite(value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise TrialFailed(
            "not_finite",
            f"epoch {epoch} gave {float(value)} where a number was expected",
            hint="a smaller learning rate, or precision=float32",
        )


@contextlib.contextmanager
def _memory_permitting(config: TrialConfig) -> Iterator[None]:
    """Turn every backend's way of running out of memory into a lost trial."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise TrialFailed(
            "out_of_memory",
            f"{config.backbone} does not fit into memory with batch_size={config.batch_size} and "
            f"image_size={config.image_size}",
            hint="search smaller image_sizes, or run fewer workers on this device",
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Tell by class and words, because each backend has an exception of its own."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    words = str(error).lower()
    return "RuntimeError" in names and ("resource_exhausted" in words or "out of memory" in words)
