"""Training, epoch by epoch, of a whole network or of its part after the frozen stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fer_search import runtime
from fer_search.model.device_loop import DeviceLoop, OnSteps
from fer_search.model.feed import Feed, as_dataset


@dataclasses.dataclass
class Trainer:
    """The model that the epochs of a trial train, and its data."""

    model: keras.Model
    """The network, or its part after the frozen stages, which shares its weights."""
    batches: Feed
    validation: np.ndarray
    """Inputs of `model` for the validation images, in order."""
    _dataset: Any = dataclasses.field(default=None, init=False)
    _loop: DeviceLoop | None = dataclasses.field(default=None, init=False)

    def compile(
        self, optimizer: keras.Optimizer, loss: keras.losses.Loss, kind: Sequence[object]
    ) -> None:
        """Compile for training what is trainable now.

        Args:
            optimizer: An optimizer made for the network.
            loss: Loss of targets and probabilities.
            kind: The facts about it that determine its kernels; see `compilation.compiled`.
        """
        self.model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=runtime.jit_compile())
        self._loop = DeviceLoop(self.model, kind) if runtime.is_jax_on_gpu() else None

    def train(self, epoch: int, on_steps: OnSteps) -> tuple[float, float]:
        """Train one epoch; `compile` must have been called.

        Args:
            epoch: Number of the epoch, from 1, which `batches` has started.
            on_steps: Called after every batch, or after several at a time on a GPU, with the number
                of batches so far and their mean loss.

        Returns:
            Mean loss and accuracy.
        """
        if self._loop:
            logs = self._loop.epoch(self.batches, on_steps)
            return logs["loss"], logs["accuracy"]
        self._dataset = self._dataset or as_dataset(self.batches)
        history = self.model.fit(
            self._dataset,
            initial_epoch=epoch - 1,
            epochs=epoch,
            shuffle=False,
            verbose=0,
            callbacks=[_Listener(on_steps)],
        ).history
        (loss,), (accuracy,) = history["loss"], history["accuracy"]
        return loss, accuracy


class _Listener(keras.callbacks.Callback):
    def __init__(self, on_steps: OnSteps) -> None:
        super().__init__()
        self._on_steps = on_steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Report a batch, counted from 0; `logs` has the mean loss of the epoch so far."""
        self._on_steps(batch + 1, logs["loss"])
