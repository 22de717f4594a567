"""Training of a network that a custom HyperModel builds, compiles and fits.

The counterpart of `training` for KerasTuner's HyperModels: it follows every epoch through a
callback, keeps the best epoch's weights, and returns a model that can be stored like ours.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from fer_search.config import EMOTIONS
from fer_search.data.images import scaled
from fer_search.data.splits import Splits
from fer_search.errors import HyperModelError, TrialFailed
from fer_search.model.classifier import dtype_policy
from fer_search.model.epochs import OnBatch, check_finite, predict
from fer_search.model.memory import memory_permitting
from fer_search.model.portable import custom_objects
from fer_search.model.training import OnEpoch, evaluate, reset_keras
from fer_search.results import EpochMetrics, Evaluation, TrialResult, best_epoch

_PROBE = 8


def train_custom(
    name: str,
    build: Callable[[], keras.Model],
    fit: Callable[..., Any],
    splits: Splits,
    *,
    epochs: int,
    patience: int,
    seed: int,
    on_epoch: OnEpoch,
    on_batch: OnBatch | None = None,
) -> tuple[keras.Model, TrialResult]:
    """Train a custom network and evaluate the weights of its best epoch.

    Args:
        name: Name of the HyperModel, for messages.
        build: Returns the compiled network, the same at every call: from images (B, s, s, 1) in
            0..255 to probabilities (B, 7).
        fit: Called with the network and Keras's `x` (N, s, s, 1) uint8, `y` (N,) int64, or
            one-hot (N, 7) if its loss is one of Keras's and not sparse, and `validation_data`,
            `epochs`, `callbacks`, `verbose`.
        splits: Trained on `train`, chosen on `validation`; `test` is not touched.
        epochs: Most epochs to train.
        patience: Epochs without a better validation macro-F1 after which training ends.
        seed: Seed of everything random in Keras.
        on_epoch: Called after each epoch. An exception that it raises ends the training and
            propagates.
        on_batch: Called after each batch with the epoch and batch, counted from 1, and the number
            of batches.

    Returns:
        The model to store, in float32 with the weights of the best epoch, and its result.

    Raises:
        HyperModelError: If `fit` does not pass its callbacks on.
        TrialFailed: If the network does not fit faces and emotions or could not be loaded without
            the code that built it, the loss is no longer finite, or memory runs out.
    """
    validation = splits.validation
    with memory_permitting(name):
        reset_keras(seed)
        model = build()
        try:
            check_network(model, name)
        except HyperModelError as error:  # other values may build a valid one
            raise TrialFailed("hypermodel", error.message, error.hint) from error
        one_hot = _takes_one_hot(model)
        size = model.input_shape[1]
        x, x_val = (scaled(split.images, size)[..., None] for split in (splits.train, validation))
        y, y_val = (
            np.eye(len(EMOTIONS), dtype=np.float32)[labels] if one_hot else labels
            for labels in (splits.train.labels, validation.labels)
        )
        listener = _Listener(x_val[..., 0], validation.labels, len(y), patience, on_epoch, on_batch)
    started = time.perf_counter()
    with listener.first_to_speak(), memory_permitting(name):
        fit(
            model,
            x=x,
            y=y,
            validation_data=(x_val, y_val),
            epochs=epochs,
            callbacks=[listener],
            verbose=0,
        )
    seconds = time.perf_counter() - started
    if not listener.history:
        raise HyperModelError(
            f"{name}: fit reported no epoch", hint="it must pass its callbacks to Model.fit"
        )
    with memory_permitting(name):
        with dtype_policy("float32"):
            stored = build()
        stored.set_weights(listener.weights)
        stored.compiled = False  # so that its compilation is not saved
        result = TrialResult(
            epochs=tuple(listener.history),
            best_epoch=listener.best.epoch,
            validation=evaluate(stored, validation.images, validation.labels),
            train_seconds=seconds,
            model_parameters=stored.count_params(),
        )
    return stored, result


def check_network(model: Any, name: str) -> None:
    """Check that a network can be trained and stored.

    Args:
        model: The model that a HyperModel built.
        name: Name of the HyperModel.

    Raises:
        HyperModelError: If it is not a compiled network from square grey images to probabilities
            of the emotions, or needs objects that are not Keras's own.
    """
    if not isinstance(model, keras.Model):
        raise HyperModelError(
            f"{name}: build returned a {type(model).__name__}, expected a keras.Model"
        )
    if not model.compiled:
        raise HyperModelError(f"{name}: the model is not compiled", hint="compile it in build")
    taken, given = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    size = taken[1] if isinstance(taken, tuple) and len(taken) == 4 else None
    if taken != (None, size, size, 1) or given != (None, len(EMOTIONS)) or size is None:
        raise HyperModelError(
            f"{name}: a model from {taken} to {given}, expected (None, s, s, 1) to "
            f"(None, {len(EMOTIONS)})",
            hint="images are grey and square (s as in image_sizes), and there are "
            f"{len(EMOTIONS)} emotions",
        )
    if strangers := custom_objects(model):
        raise HyperModelError(
            f"{name}: the stored model would need code from outside Keras: "
            f"{', '.join(sorted(strangers))}",
            hint="use only Keras's own layers, so that it can be loaded and served anywhere",
        )
    images = np.random.default_rng(0).integers(0, 256, (_PROBE, size, size, 1)).astype(np.uint8)
    answers = np.asarray(model.predict_on_batch(images), np.float32)
    if answers.min() < 0 or not np.allclose(answers.sum(axis=1), 1, atol=0.05):
        raise HyperModelError(
            f"{name}: the outputs are not probabilities", hint="end the model with a softmax"
        )


def _takes_one_hot(model: keras.Model) -> bool:
    """Tell whether the loss takes one-hot labels: Keras's own do unless they are sparse.

    Other losses get integers, because nothing tells what they take.
    """
    (loss,) = model.loss if isinstance(model.loss, (list, tuple)) else [model.loss]
    if not isinstance(loss, (str, keras.losses.Loss)):
        loss = loss.__name__ if loss.__module__.startswith("keras.") else "sparse"
    if isinstance(loss, keras.losses.Loss):
        kinds = [
            kind.__name__ for kind in type(loss).__mro__ if kind.__module__.startswith("keras.")
        ]
        loss = kinds[0] if kinds[0] not in ("Loss", "LossFunctionWrapper") else "sparse"
    return not loss.lower().startswith("sparse")


def _accuracy(logs: Mapping[str, float]) -> float:
    """Return the training accuracy, whatever name the model gives it; NaN if it reports none."""
    names = [name for name in logs if name.endswith("acc") or name.endswith("accuracy")]
    return next((logs[name] for name in names if not name.startswith("val_")), math.nan)


class _Listener(keras.callbacks.Callback):
    """Validates after each epoch, reports it, and keeps the best epoch's weights."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        n_training: int,
        patience: int,
        on_epoch: OnEpoch,
        on_batch: OnBatch | None,
    ) -> None:
        super().__init__()
        self._images, self._labels, self._n_training = images, labels, n_training
        self._patience, self._on_epoch, self._on_batch = patience, on_epoch, on_batch
        self._seconds = 0.0
        self._verdict: BaseException | None = None
        self.history: list[EpochMetrics] = []

    @contextlib.contextmanager
    def first_to_speak(self) -> Iterator[None]:
        """Raise what `on_epoch` raised, even if custom code caught or replaced it."""
        try:
            yield
        except Exception:
            if self._verdict is None:
                raise
        if self._verdict is not None:
            raise self._verdict from None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock of an epoch, counted from 0."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop the clock, so that validation does not count, and report the batch."""
        self._seconds = time.perf_counter() - self._started
        if self._on_batch:
            steps = self.params.get("steps") or batch + 1
            self._on_batch(len(self.history) + 1, batch + 1, steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate and report the epoch, and end training when patience runs out."""
        number, logs = len(self.history) + 1, logs or {}
        check_finite(logs["loss"], number)
        probabilities = np.asarray(predict(self.model, self._images[..., None]), np.float32)
        check_finite(probabilities.sum(), number)
        evaluation = Evaluation(self._labels, probabilities)
        metrics = EpochMetrics(
            epoch=number,
            loss=logs["loss"],
            accuracy=_accuracy(logs),
            val_loss=evaluation.loss,
            val_accuracy=evaluation.accuracy,
            val_macro_f1=evaluation.macro_f1,
            learning_rate=float(self.model.optimizer.learning_rate),
            images_per_second=self._n_training / max(self._seconds, 1e-9),
        )
        self.history.append(metrics)
        self.best = best_epoch(self.history)
        if self.best is metrics:
            self.weights = self.model.get_weights()
        try:
            self._on_epoch(metrics)
        except BaseException as verdict:
            self._verdict = verdict
            raise
        if number - self.best.epoch >= self._patience:
            self.model.stop_training = True
