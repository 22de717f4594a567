"""The training of one trial: a config and images in, a model and its metrics out.

`workflows.worker` calls `train` for each trial and follows every epoch through `on_epoch`; this
module knows nothing of recording, reporting or pruning.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import keras
import numpy as np

from fer_search.data.batches import Batches
from fer_search.data.images import scaled
from fer_search.data.packing import Mapped
from fer_search.data.splits import Split, Splits
from fer_search.data.weights import class_weights
from fer_search.model import classifier, epochs, features, optimizers
from fer_search.model.checkpoint import Checkpoint, Progress
from fer_search.model.memory import memory_permitting
from fer_search.model.trainer import Trainer
from fer_search.results import EpochMetrics, Evaluation, TrialResult, training_is_over
from fer_search.trial_config import TrialConfig

OnEpoch = Callable[[EpochMetrics], None]

_CALIBRATE_ON = 256
"""Number of training images by which the features are standardised before the first step."""
_PLATEAU = 2
"""Epochs without a better validation macro-F1 after which the schedule `plateau` slows down."""
_SLOW_DOWN = 0.5
"""Factor by which `plateau` then multiplies the learning rate."""


def train(
    config: TrialConfig,
    splits: Splits,
    *,
    on_epoch: OnEpoch,
    on_batch: epochs.OnBatch | None = None,
    model: keras.Model | None = None,
    first_epoch: int = 1,
    checkpoint: Checkpoint | None = None,
    parts: int = 1,
) -> tuple[keras.Model, TrialResult]:
    """Train one trial and evaluate the weights of its best epoch.

    The same config and images give the same result on a CPU, up to the order in which floats
    are summed. Keras is used as `runtime.configure` set it up in this thread.

    Args:
        config: The trial's hyperparameters.
        splits: Trained on `train`, chosen on `validation`; `test` is not touched.
        on_epoch: Called after each epoch, while the model has the weights that were validated. An
            exception that it raises ends the training and propagates.
        on_batch: Called after each batch, or after several at a time on a GPU, with the epoch and
            batch, counted from 1, and the number of batches.
        model: The network to train, as from `fresh_network`; None for a new one.
        first_epoch: Number of the first epoch.
        checkpoint: Where the training is saved after each epoch, before `on_epoch` is called. If it
            already holds epochs of this trial, training continues from there, and `on_epoch` is
            called again for them.
        parts: Fewest parts in which a batch is processed, to save memory; the gradients of the
            parts are averaged.

    Returns:
        The model to store (see `classifier.inference_copy`) with the weights of the best epoch,
        and its result.

    Raises:
        TrialFailed: If the loss is no longer finite, or memory runs out.
        WeightsError: If the pretrained weights are unavailable or belong to another network.
        DataError: If an emotion has no training images.
    """
    what = f"{config.backbone} with batch_size={config.batch_size}, image_size={config.image_size}"
    what += f", in {parts} parts" if parts > 1 else ""
    validation = splits.validation
    with memory_permitting(what):
        model = model or fresh_network(config, splits.train)
        saved = checkpoint.read(model, parts) if checkpoint else None
        fresh = Progress(phase=first_epoch, changed=first_epoch, parts=parts)
        progress = saved.progress if saved else fresh
        parts = progress.parts
        started = time.perf_counter() - progress.seconds
        batches = _batches(config, splits.train, parts)
        n_epochs = config.epochs - first_epoch + 1 if parts == 1 else 0  # no memory for features
        trainer = features.trainer(
            model, config, batches, splits.train, validation, n_epochs=n_epochs
        )
        optimizer = _compile(model, trainer, config, progress.phase, parts)
        if saved:
            saved.restore(model, trainer.model)
    if saved:
        with optimizer.averaged():
            for metrics in progress.history:  # it may have stopped before they were reported
                on_epoch(metrics)
    while not training_is_over(progress.history, config.epochs, config.patience):
        with memory_permitting(what):
            epoch = progress.epoch + 1
            if epoch == config.head_warmup + 1 != progress.phase:
                optimizer = _compile(model, trainer, config, epoch, parts)
                progress.phase = progress.changed = epoch
            metrics, weights = epochs.run(
                model, trainer, optimizer, validation.labels, epoch=epoch, on_batch=on_batch
            )
            progress.add(metrics, weights)
            if config.schedule == "plateau" and _stands_still(progress):
                optimizer.slow_down(_SLOW_DOWN)
                progress.changed = epoch
            progress.seconds = time.perf_counter() - started
            if checkpoint:
                checkpoint.write(progress, model, trainer.model)
        with optimizer.averaged():
            on_epoch(metrics)
    with memory_permitting(what):
        model.set_weights(progress.best_weights)
        stored = classifier.inference_copy(model, config)
        result = TrialResult(
            epochs=tuple(progress.history),
            best_epoch=progress.best.epoch,
            validation=evaluate(stored, validation.images, validation.labels),
            train_seconds=progress.seconds,
            model_parameters=stored.count_params(),
        )
    return stored, result


def _stands_still(progress: Progress) -> bool:
    return progress.epoch - max(progress.best.epoch, progress.changed) >= _PLATEAU


def fresh_network(config: TrialConfig, faces: Split) -> keras.Model:
    """Make the network of a trial as it is when training begins.

    Args:
        config: The trial's hyperparameters.
        faces: The training set.

    Raises:
        WeightsError: If the pretrained weights are unavailable or belong to another network.
    """
    reset_keras(config.seed)
    model = classifier.build(config)
    classifier.calibrate(model, some_faces(faces.mapped, config.seed))
    return model


def evaluate(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Compare the predictions of a model with the labels.

    Args:
        model: A model from faces (B, S, S, 1) to probabilities (B, 7).
        images: Shape (N, 48, 48), uint8, N at least 1; scaled if S is not 48.
        labels: Shape (N,), values in [0, 7).

    Raises:
        ValueError: If shapes or labels do not fit, or a probability is not finite.
    """
    images = scaled(images, model.input_shape[1])
    return Evaluation(labels, np.asarray(epochs.predict(model, images[..., None]), np.float32))


def reset_keras(seed: int) -> None:
    """Free what the last trial left in Keras and seed everything random."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()
    keras.config.set_dtype_policy(policy)  # clearing the session resets it
    keras.utils.set_random_seed(seed)


def _batches(config: TrialConfig, split: Split, parts: int) -> Batches:
    return Batches(
        split.mapped,
        split.labels,
        batch_size=-(-config.batch_size // parts),
        seed=config.seed,
        class_weights=class_weights(split.labels, config.class_weight_power),
        balanced=config.balanced_sampling,
        mixup=config.mixup,
    )


def some_faces(faces: np.ndarray | Mapped, seed: int) -> np.ndarray:
    """Choose the faces for `classifier.calibrate`: at most 256 of (N, 48, 48), at random."""
    return faces[np.random.default_rng(seed).permutation(len(faces))[:_CALIBRATE_ON]]


def _compile(
    model: keras.Model, trainer: Trainer, config: TrialConfig, epoch: int, parts: int
) -> optimizers.TrialOptimizer:
    """Compile for the phase that begins with `epoch`: the head alone, or all that should train."""
    head_only = epoch <= config.head_warmup
    last = config.head_warmup if head_only else config.epochs
    steps = (last - epoch + 1) * len(trainer.batches)
    classifier.freeze(model, config, head_only=head_only)
    optimizer = optimizers.create(config, model, steps, head_only=head_only, parts=parts)
    trained = "head" if head_only else config.unfreeze_depth
    precision = keras.config.dtype_policy().name
    trainer.compile(
        optimizer, loss(config), (config.backbone, config.image_size, precision, trained)
    )
    return optimizer


def loss(config: TrialConfig) -> keras.losses.Loss:
    """Make the loss of a trial: cross-entropy, or focal loss (https://arxiv.org/abs/1708.02002).

    Args:
        config: The trial's hyperparameters.

    Returns:
        A loss of target and predicted probabilities, both (B, 7).
    """
    smoothing = config.label_smoothing
    if config.focal_gamma:
        return keras.losses.CategoricalFocalCrossentropy(
            alpha=1.0, gamma=config.focal_gamma, label_smoothing=smoothing
        )
    return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
