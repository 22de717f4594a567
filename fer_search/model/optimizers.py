"""Optimizers: AdamW and SGD with a schedule and a separate learning rate for the backbone.

`training` compiles the network with the optimizer that `create` returns. Head and backbone share
one schedule; the backbone's rate is a fixed share of the head's, for step and weight decay alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.optimizers import schedules

from fer_search.model.fused_steps import FusedAdam, FusedNesterov
from fer_search.trial_config import TrialConfig

_AVERAGING_STARTS = 9
"""The average of the weights spans a tenth of the steps so far until it reaches its decay."""


def create(
    config: TrialConfig, model: keras.Model, steps: int, *, head_only: bool = False, parts: int = 1
) -> TrialOptimizer:
    """Create the optimizer of a trial for the weights of `model` that train.

    Args:
        config: The trial's hyperparameters.
        model: The network that `classifier.build` returned for `config`.
        steps: Number of batches, or parts of batches, in the optimizer's phase, at least 1.
        head_only: Whether the phase is the head's warm-up, in which the rate does not fall.
        parts: Parts of a batch whose gradients are averaged into one step.
    """
    schedule = "plateau" if head_only else config.schedule
    backbone = {id(weight) for weight in model.get_layer(config.backbone).weights}

    def share(weight: keras.Variable) -> float:
        return config.backbone_rate if id(weight) in backbone else 1.0

    return OPTIMIZERS[config.optimizer](
        learning_rate=SCHEDULES[schedule](config.learning_rate, steps, config.warmup),
        share=share,
        decay=config.weight_decay,
        ema_decay=config.ema_decay,
        global_clipnorm=config.clip_norm or None,
        gradient_accumulation_steps=parts if parts > 1 else None,
        name=config.optimizer,
    )


def _cosine(peak: float, steps: int, warmup: float) -> schedules.LearningRateSchedule:
    """Rise linearly from 0, then fall to 0 along half a cosine; arXiv 1608.03983, no restarts."""
    return _after_warmup(peak, steps, warmup, lowest=0.0)


def _plateau(peak: float, steps: int, warmup: float) -> schedules.LearningRateSchedule:
    """Rise linearly from 0, then stay constant; `training` lowers all rates on a plateau."""
    return _after_warmup(peak, steps, warmup, lowest=1.0)


def _after_warmup(
    peak: float, steps: int, warmup: float, *, lowest: float
) -> schedules.LearningRateSchedule:
    rising = int(warmup * steps)
    if not rising:
        return schedules.CosineDecay(peak, steps, alpha=lowest)
    return schedules.CosineDecay(
        0.0, steps - rising, alpha=lowest, warmup_target=peak, warmup_steps=rising
    )


SCHEDULES: dict[str, Callable[[float, int, float], schedules.LearningRateSchedule]] = {
    "cosine": _cosine,
    "plateau": _plateau,
}
"""Schedules by name, as functions of the peak, the number of steps (at least 1) and the share of
them, in [0, 1), in which the rate rises; the names are `config.SCHEDULES`."""


class TrialOptimizer(keras.Optimizer):
    """Mixin for a Keras optimizer: rates per weight, `slow_down`, and averaged weights.

    In each step kernels decay by `decay` times their rate, independently of the gradient
    (https://arxiv.org/abs/1711.05101); biases and the scales of norms do not decay.

    Args:
        share: Returns the share of the learning rate that a weight gets.
        decay: Share of a kernel that decays in a step, before multiplication by the rate.
        ema_decay: Decay of the exponential moving average of the weights, in [0, 1); 0 for none.
            Early averages span a tenth of the steps so far, so that validation does not lag behind.
        **options: Options of the Keras optimizer.
    """

    def __init__(
        self,
        *,
        share: Callable[[keras.Variable], float],
        decay: float,
        ema_decay: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._share = share
        self._decay = decay
        self._ema_decay = ema_decay

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the state; Keras calls this with the weights to train."""
        if self.built:
            return
        super().build(variables)
        self._pace = self.add_variable((), initializer="ones", name="pace")
        self._averages = [
            self.add_variable_from_reference(weight, name="average")
            for weight in (variables if self._ema_decay else ())
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decay one weight, then step and average it; Keras calls this for each in turn."""
        # TensorFlow passes its own variable, not Keras's.
        index = self._get_variable_index(variable)
        weight = self._trainable_variables[index]
        rate = learning_rate * self._pace * self._share(weight)
        if self._decay and weight.name == "kernel":
            self.assign_sub(variable, variable * keras.ops.cast(rate * self._decay, weight.dtype))
        super().update_step(gradient, variable, rate)
        if self._ema_decay:
            step = keras.ops.cast(self.iterations, weight.dtype)
            kept = keras.ops.minimum(self._ema_decay, step / (step + _AVERAGING_STARTS))
            average = self._averages[index]
            self.assign_add(average, (1 - kept) * (weight - average))

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Sum over replicas, of which there is one; overrides Keras's hook for TensorFlow.

        Keras's own version uses a custom gradient, which TensorFlow never releases, nor the graph
        and the weights with it: a worker would keep the network of every trial.
        """
        return grads_and_vars

    @property
    def rate(self) -> float:
        """The current learning rate of the head."""
        return float(self.learning_rate) * float(self._pace)

    def slow_down(self, factor: float) -> None:
        """Multiply all rates by `factor` from now on."""
        self._pace.assign(self._pace * factor)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Temporarily replace the weights with their averages; without averages, do nothing."""
        weights = self._trainable_variables if self._ema_decay else []
        # Copies: two variables that share memory are a trap on JAX, which reuses it in each step.
        raw, averages = (list(map(keras.ops.copy, them)) for them in (weights, self._averages))
        for weight, average in zip(weights, averages, strict=True):
            weight.assign(average)
        try:
            yield
        finally:
            for weight, value in zip(weights, raw, strict=True):
                weight.assign(value)


class _AdamW(TrialOptimizer, FusedAdam):
    """Adam with decoupled weight decay."""


class _Sgd(TrialOptimizer, FusedNesterov):
    """Gradient descent with Nesterov's momentum."""

    def __init__(self, **options: Any) -> None:
        super().__init__(momentum=0.9, **options)


OPTIMIZERS: dict[str, Callable[..., TrialOptimizer]] = {"adamw": _AdamW, "sgd": _Sgd}
"""Optimizers by name; the names are `config.OPTIMIZERS`."""
