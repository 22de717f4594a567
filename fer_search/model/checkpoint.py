"""A training between two epochs, on disk: all that `training.train` needs to go on from there.

One `.npz` file of arrays and a JSON text, nothing pickled, which appears whole or not at all. The
order of pictures and mixup need no place in it: `data.batches` makes them from seed and epoch.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fer_search.results import EpochMetrics, best_epoch

log = logging.getLogger(__name__)

_LAYOUT = 2
"""Of the file; another number for what is kept of network and optimizer."""
_MOST_TIME = 0.05
"""Share of a training that goes into its checkpoints: short epochs have none of their own."""


@dataclasses.dataclass
class Progress:
    """Where a training stands, apart from network and optimizer."""

    phase: int
    """First epoch of the phase (head alone, or all) that the optimizer is for."""
    changed: int
    """Epoch in which the learning rate last began anew or was slowed down."""
    history: list[EpochMetrics] = dataclasses.field(default_factory=list)
    best_weights: list[np.ndarray] = dataclasses.field(default_factory=list)
    """As `keras.Model.get_weights` gave them after the best epoch."""
    seconds: float = 0.0
    """Spent on training so far."""
    parts: int = 1
    """In how many parts a batch goes through memory."""

    @property
    def epoch(self) -> int:
        """The last one that is done."""
        return self.history[-1].epoch if self.history else self.phase - 1

    @property
    def best(self) -> EpochMetrics:
        """The first of those with the highest validation macro-F1."""
        return best_epoch(self.history)

    def add(self, metrics: EpochMetrics, weights: list[np.ndarray]) -> None:
        """Add an epoch and the weights that were validated after it."""
        self.history.append(metrics)
        if self.best is metrics:
            self.best_weights = weights


@dataclasses.dataclass(frozen=True)
class Saved:
    """What `Checkpoint.read` found."""

    progress: Progress
    network: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]

    def restore(self, model: keras.Model, trained: keras.Model) -> None:
        """Give network and optimizer the values that they had.

        Args:
            model: Built anew for the same trial.
            trained: The part of it that trains, or all of it, compiled for the phase of `progress`.
        """
        if not trained.optimizer.built:  # a second time would double what scales the loss
            trained.optimizer.build(trained.trainable_variables)
        _assign(model.variables, self.network)
        _assign(trained.optimizer.variables, self.optimizer)


class Checkpoint:
    """The place of one trial's checkpoint.

    Args:
        file: Where it is, or shall be; its folder exists.
        about: What must be the same for it to be of use, e.g. the parameters; values that JSON
            knows.
    """

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self._file = file
        made_by = {
            "keras": keras.__version__, "backend": keras.config.backend(), "layout": _LAYOUT,
        }  # fmt: skip
        self._about = json.loads(json.dumps({**about, **made_by}))
        self._not_before = 0.0
        self.epoch_read = 0
        """The epoch from which `read` lets training go on; 0 if from none."""

    def read(self, model: keras.Model, parts: int = 1) -> Saved | None:
        """Read what was written last; None, with a warning if that is a loss, if it is no use.

        Args:
            model: Built anew for the same trial. What a program wrote that builds another network
                for it is no use.
            parts: A training with fewer parts to a batch is no use: it took too much memory.
        """
        self.epoch_read = 0
        self._not_before = 0.0  # another attempt, perhaps in halves, is kept from its first epoch
        try:
            with self._file.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                facts = json.loads(arrays["facts"].item())
                network, optimizer, best = (
                    [arrays[f"{kind}-{index}"] for index in range(count)]
                    for kind, count in facts["counts"].items()
                )
            history = [EpochMetrics(**epoch) for epoch in facts["progress"].pop("history")]
            progress = Progress(**facts["progress"], history=history, best_weights=best)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s cannot be read (%s): training begins anew", self._file, error)
            return None
        shapes = [array.shape for array in network]
        if facts["about"] != self._about or shapes != [tuple(v.shape) for v in model.variables]:
            log.warning("%s is of another training, which begins anew", self._file)
            return None
        if progress.parts < parts:
            return None
        self.epoch_read = progress.epoch
        return Saved(progress, network, optimizer)

    def write(self, progress: Progress, model: keras.Model, trained: keras.Model) -> None:
        """Replace what was written before, unless that is so recent that writing would take long.

        If it fails, what was written before is kept, with a warning, and training goes on.
        """
        began = time.monotonic()
        if began < self._not_before:
            return
        groups = {
            "network": [_array(variable) for variable in model.variables],
            "optimizer": [_array(variable) for variable in trained.optimizer.variables],
            "best": progress.best_weights,
        }
        told = dataclasses.asdict(dataclasses.replace(progress, best_weights=[]))
        del told["best_weights"]
        facts = {
            "about": self._about,
            "progress": told,
            "counts": {kind: len(arrays) for kind, arrays in groups.items()},
        }
        named = {f"{kind}-{i}": a for kind, arrays in groups.items() for i, a in enumerate(arrays)}
        half = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            with half.open("wb") as file:
                np.savez(file, allow_pickle=False, facts=np.array(json.dumps(facts)), **named)
            half.replace(self._file)
        except OSError as error:
            half.unlink(missing_ok=True)
            log.warning("epoch %d has no checkpoint: %s", progress.epoch, error)
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _MOST_TIME


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
