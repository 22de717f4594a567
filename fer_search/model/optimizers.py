"""The optimizers: AdamW and SGD with a cosine schedule and a rate of its own for the backbone.

`training` compiles the network with what `create` gives. Head and backbone share one schedule; the
backbone's rate is a fixed share of the head's, for the step and for the weight decay alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras.optimizers import schedules

from fer_search.config import TrialConfig

_CLIP_NORM = 1.0
"""Largest norm of the gradient over all weights."""


def create(config: TrialConfig, model: keras.Model, steps: int) -> keras.Optimizer:
    """Create the optimizer of a trial for the weights of `model` that train.

    Args:
        config: Of the trial.
        model: What `classifier.build` gave for it.
        steps: Training steps in all epochs together, at least 1.
    """
    backbone = {id(weight) for weight in model.get_layer(config.backbone).weights}

    def share(weight: keras.Variable) -> float:
        return config.backbone_rate if id(weight) in backbone else 1.0

    return OPTIMIZERS[config.optimizer](
        learning_rate=schedule(config.learning_rate, steps, warmup=config.warmup),
        share=share,
        decay=config.weight_decay,
        global_clipnorm=_CLIP_NORM,
        name=config.optimizer,
    )


def schedule(learning_rate: float, steps: int, *, warmup: float) -> schedules.LearningRateSchedule:
    """Rise linearly from 0 to `learning_rate`, then fall to 0 along half a cosine.

    Source: https://arxiv.org/abs/1608.03983, without restarts.

    Args:
        learning_rate: The peak.
        steps: Training steps in all, at least 1.
        warmup: Share of them in which the rate rises, in [0, 1).
    """
    rising = int(warmup * steps)
    if not rising:
        return schedules.CosineDecay(learning_rate, steps)
    return schedules.CosineDecay(
        0.0, steps - rising, warmup_target=learning_rate, warmup_steps=rising
    )


class _RatePerWeight(keras.Optimizer):
    """Mixed in before a Keras optimizer: the learning rate is scaled for each weight.

    Kernels decay by `decay` times their rate in each step, apart from the gradient
    (https://arxiv.org/abs/1711.05101); biases and the scales of norms do not decay.

    Args:
        share: Weight to the share of the learning rate that it gets.
        decay: Share of a kernel that decays in a step, before it is multiplied by the rate.
        **options: Of the Keras optimizer.
    """

    def __init__(
        self, *, share: Callable[[keras.Variable], float], decay: float, **options: Any
    ) -> None:
        super().__init__(**options)
        self._share = share
        self._decay = decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decay one weight, then step it; Keras calls this for each in turn."""
        # TensorFlow hands over its own variable, not Keras's.
        weight = self._trainable_variables[self._get_variable_index(variable)]
        rate = learning_rate * self._share(weight)
        if self._decay and weight.name == "kernel":
            self.assign_sub(variable, variable * keras.ops.cast(rate * self._decay, weight.dtype))
        super().update_step(gradient, variable, rate)


class _AdamW(_RatePerWeight, keras.optimizers.Adam):
    """Adam with decoupled weight decay."""


class _Sgd(_RatePerWeight, keras.optimizers.SGD):
    """Gradient descent with Nesterov's momentum."""

    def __init__(self, **options: Any) -> None:
        super().__init__(momentum=0.9, nesterov=True, **options)


OPTIMIZERS: dict[str, Callable[..., keras.Optimizer]] = {"adamw": _AdamW, "sgd": _Sgd}
"""Name to optimizer; the names are `config.OPTIMIZERS`."""
