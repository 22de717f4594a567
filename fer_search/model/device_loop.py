"""An epoch on JAX: many steps per device call, while the next batches are prepared.

Keras's `fit` calls the device once for each batch and reads the loss after it. On a GPU a step on a
small batch takes a millisecond, and so does such a call; see docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from fer_search.compilation import compiled
from fer_search.model.feed import Feed

STEPS = 32
"""Most batches per call: enough that the time between calls does not matter, and few enough that a
stop, or a loss that is not finite, is noticed soon."""

OnSteps = Callable[[int, float], None]


class DeviceLoop:
    """The training steps of a network, many per device call; JAX only.

    Args:
        model: A compiled network, whose `train_step` is run as in `fit`; after another `compile`, a
            new loop is needed.
        kind: The facts about it that determine its kernels; see `compilation.compiled`.
    """

    def __init__(self, model: keras.Model, kind: Sequence[object]) -> None:
        self._model = model
        self._kind = kind
        self._call: Callable[..., Any] | None = None

    def epoch(self, feed: Feed, on_steps: OnSteps) -> dict[str, float]:
        """Train on all batches of a feed.

        Args:
            feed: A feed whose epoch has started.
            on_steps: Called after each device call with the number of batches so far and their mean
                loss. An exception that it raises propagates and leaves the network as it is then.
                An exception within a device call leaves the network unusable.

        Returns:
            The means of loss and metrics over the epoch.
        """
        self._call = self._call or self._compiled(feed)
        self._model.reset_metrics()
        state, logs = self._values(), {}
        starts = range(0, len(feed), STEPS)
        with ThreadPoolExecutor(1) as maker:
            coming = maker.submit(_chunk, feed, 0)
            try:
                for start in starts:
                    chunk, n = coming.result()
                    if start + STEPS < len(feed):
                        coming = maker.submit(_chunk, feed, start + STEPS)
                    state, means = self._call(state, chunk, n)
                    logs = {name: float(mean) for name, mean in means.items()}
                    on_steps(start + n, logs["loss"])
            finally:
                self._keep(state)
        return logs

    def _compiled(self, feed: Feed) -> Callable[..., Any]:
        import jax

        self._make_variables(feed.batch(0))
        program = jax.jit(self._steps, donate_argnums=0)
        lowered = program.lower(self._values(), *_chunk(feed, 0))
        return compiled(lowered, (*self._kind, feed.batch_size))

    def _steps(self, state: Any, chunk: Any, n: Any) -> tuple[Any, dict[str, Any]]:
        """Train on the first `n` batches of a chunk; this is what JAX compiles."""
        import jax

        def step(index: Any, state: Any) -> Any:
            _, state = self._model.train_step(state, tuple(array[index] for array in chunk))
            return tuple(map(list, state))

        state = jax.lax.fori_loop(0, n, step, state)
        with keras.StatelessScope(list(zip(self._model.metrics_variables, state[-1], strict=True))):
            return state, self._model.get_metrics_result()

    def _make_variables(self, batch: tuple[np.ndarray, ...]) -> None:
        """Create optimizer and metric variables, which Keras makes late: calls must not add any."""
        self._model.optimizer.build(self._model.trainable_variables)
        inputs, targets, weights = batch
        self._model.compute_metrics(inputs, targets, keras.ops.ones_like(targets), weights)

    def _variables(self) -> tuple[list[keras.Variable], ...]:
        model = self._model
        return (
            list(model.trainable_variables),
            list(model.non_trainable_variables),
            list(model.optimizer.variables),
            list(model.metrics_variables),
        )

    def _values(self) -> tuple[list[Any], ...]:
        return tuple([variable.value for variable in kind] for kind in self._variables())

    def _keep(self, state: tuple[list[Any], ...]) -> None:
        for variables, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def _chunk(feed: Feed, start: int) -> tuple[tuple[Any, ...], int]:
    """Put batches from `start` on the device, in arrays (steps, B, …), and count the real ones."""
    import jax

    batches = [feed.batch(index) for index in range(start, min(start + STEPS, len(feed)))]
    missing = min(STEPS, len(feed)) - len(batches)  # one shape, or the last call recompiles
    arrays = (np.stack([*kind, *kind[:1] * missing]) for kind in zip(*batches, strict=True))
    return tuple(map(jax.device_put, arrays)), len(batches)
