"""Optimizer steps as one TensorFlow operation per weight instead of Keras's dozen.

On a CPU each operation is a pass over all weights, and Keras makes a dozen of them per step; see
docs/performance.md. State and formulas are Keras's own, so that checkpoints and results stay the
same up to rounding. JAX fuses such operations by itself.
"""

from __future__ import annotations

from typing import Any

import keras

_IS_FUSED = keras.backend.backend() == "tensorflow"


class _ClippedInOne(keras.Optimizer):
    """Clips by the norm of all gradients without storing their squares."""

    def _clip_gradients(self, grads: list[Any]) -> Any:
        if not (_IS_FUSED and self.global_clipnorm):
            return super()._clip_gradients(grads)
        import tensorflow as tf

        return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]


class FusedAdam(_ClippedInOne, keras.optimizers.Adam):
    """`keras.optimizers.Adam` without the amsgrad variant (https://arxiv.org/abs/1412.6980)."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one weight; Keras calls this for each in turn."""
        if not _IS_FUSED:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index, dtype = self._get_variable_index(variable), variable.dtype
        steps = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), steps),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), steps),
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )


class FusedNesterov(_ClippedInOne, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with Nesterov's momentum, which must not be 0."""

    def __init__(self, *, momentum: float, **options: Any) -> None:
        super().__init__(momentum=momentum, nesterov=True, **options)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one weight; Keras calls this for each in turn."""
        if not _IS_FUSED:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=True,
        )
