"""Our space and our training as a HyperModel, for searches with KerasTuner.

    tuner = keras_tuner.Hyperband(EmotionHyperModel(SearchConfig(…)),
                                  objective=keras_tuner.Objective("val_macro_f1", "max"))
    tuner.search(x, y, validation_data=(x_val, y_val))

On TensorFlow, KerasTuner's tuners need `tensorboard` to be installed. This program does not use
them: it asks Optuna. Comparisons are fair because both use the same space and the same training.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, cast

import keras
import keras_tuner
import numpy as np

from fer_search.config import SearchConfig
from fer_search.data.splits import Splits
from fer_search.model import classifier, training
from fer_search.results import EpochMetrics, best_epoch
from fer_search.study.space import suggest
from fer_search.trial_config import TrialConfig


class EmotionHyperModel(keras_tuner.HyperModel):
    """The networks of a search.

    Args:
        search: Settings that define the space; `image_sizes` must be given, not `auto`.
        seed: Seed of every trial.
    """

    def __init__(self, search: SearchConfig, seed: int = 0) -> None:
        super().__init__()
        self._search = search
        self._seed = seed
        self._policy = keras.config.dtype_policy()

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build an uncompiled network: its optimizer needs to know the number of steps."""
        keras.config.set_dtype_policy(self._policy)  # tuners clear the session, which resets it
        return classifier.build(self._config(hp))

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        x: np.ndarray,
        y: np.ndarray,
        *,
        validation_data: tuple[np.ndarray, np.ndarray],
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: Any = None,
    ) -> dict[str, float]:
        """Train the way our own trials are trained.

        Args:
            hp: The trial's hyperparameters.
            model: The network that `build` returned.
            x: Faces (N, 48, 48), uint8.
            y: Emotions (N,), values in [0, 7).
            validation_data: Faces and emotions for validation.
            epochs: The last epoch; by default the search's.
            initial_epoch: Number of epochs that the model has been trained for.
            callbacks: Called after each epoch, as by `Model.fit`.
            verbose: Not used; callbacks show progress.

        Returns:
            The metrics of the best epoch: `loss`, `accuracy`, `val_loss`, `val_accuracy` and
            `val_macro_f1`.

        Raises:
            ValueError: If there is no epoch left to train.
        """
        last = epochs or self._search.epochs
        if last <= initial_epoch:
            raise ValueError(f"expected epochs > initial_epoch, got {last} and {initial_epoch}")
        suggested = self._config(hp)
        config = TrialConfig(
            **suggested.model_dump()
            | {"epochs": last, "head_warmup": min(suggested.head_warmup, last - 1)}
        )
        sets = [
            types.SimpleNamespace(images=images, mapped=images, labels=labels)
            for images, labels in ((x, y), validation_data)
        ]
        splits = cast(Splits, types.SimpleNamespace(train=sets[0], validation=sets[1]))
        if not initial_epoch:
            classifier.calibrate(model, training.some_faces(x, config.seed))
        listeners = keras.callbacks.CallbackList(list(callbacks), model=model)

        def on_epoch(metrics: EpochMetrics) -> None:
            listeners.on_epoch_end(metrics.epoch - 1, _logs(metrics))

        listeners.on_train_begin()
        _, result = training.train(
            config, splits, on_epoch=on_epoch, model=model, first_epoch=initial_epoch + 1
        )
        listeners.on_train_end()
        return _logs(best_epoch(result.epochs))

    def _config(self, hp: keras_tuner.HyperParameters) -> TrialConfig:
        return suggest(hp, search=self._search, seed=self._seed)


def _logs(metrics: EpochMetrics) -> dict[str, float]:
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "val_macro_f1")
    return {name: getattr(metrics, name) for name in names}
