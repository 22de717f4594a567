"""Checkpoints between epochs: everything that `training.train` needs to continue from disk.

A checkpoint is one `.npz` file of arrays and JSON text, without pickles, written atomically. It
need not hold the order of images and mixup: `data.batches` derives them from seed and epoch.
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
"""Version of the file layout; changes with what is kept of network and optimizer."""
_MOST_TIME = 0.05
"""Largest share of training time spent on checkpoints: not every short epoch has one."""


@dataclasses.dataclass
class Progress:
    """The state of training, apart from network and optimizer."""

    phase: int
    """First epoch of the phase (head alone, or everything) that the optimizer is for."""
    changed: int
    """Epoch in which the learning rate was last restarted or lowered."""
    history: list[EpochMetrics] = dataclasses.field(default_factory=list)
    best_weights: list[np.ndarray] = dataclasses.field(default_factory=list)
    """Weights after the best epoch, as `keras.Model.get_weights` returned them."""
    seconds: float = 0.0
    """Seconds spent on training so far."""
    parts: int = 1
    """Number of parts in which a batch is processed, to save memory."""

    @property
    def epoch(self) -> int:
        """The last completed epoch."""
        return self.history[-1].epoch if self.history else self.phase - 1

    @property
    def best(self) -> EpochMetrics:
        """The first epoch with the highest validation macro-F1."""
        return best_epoch(self.history)

    def add(self, metrics: EpochMetrics, weights: list[np.ndarray]) -> None:
        """Add an epoch and the weights that were validated after it."""
        self.history.append(metrics)
        if self.best is metrics:
            self.best_weights = weights


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint as `Checkpoint.read` found it."""

    progress: Progress
    network: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]

    def restore(self, model: keras.Model, trained: keras.Model) -> None:
        """Restore the values of network and optimizer.

        Args:
            model: A newly built network for the same trial.
            trained: The part of it that trains, or all of it, compiled for the phase of `progress`.
        """
        if not trained.optimizer.built:  # again, it would add the loss scale's variables twice
            trained.optimizer.build(trained.trainable_variables)
        _assign(model.variables, self.network)
        _assign(trained.optimizer.variables, self.optimizer)


class Checkpoint:
    """Reads and writes the checkpoint of one trial.

    Args:
        file: Path of the checkpoint, which need not exist; its folder must.
        about: Facts that must be the same for a checkpoint to be usable, e.g. the parameters; JSON
            values.
    """

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self._file = file
        made_by = {
            "keras": keras.__version__, "backend": keras.config.backend(), "layout": _LAYOUT,
        }  # fmt: skip
        self._about = json.loads(json.dumps({**about, **made_by}))
        self._not_before = 0.0
        self.epoch_read = 0
        """The last epoch of the checkpoint that `read` returned; 0 if it returned none."""

    def read(self, model: keras.Model, parts: int = 1) -> Saved | None:
        """Read the checkpoint; return None if there is none or it cannot be used.

        A warning is logged if it is unreadable or does not match this trial and program.

        Args:
            model: A newly built network for the same trial. A checkpoint is not used if the program
                that wrote it built a network with other shapes.
            parts: Fewest parts per batch. A checkpoint with fewer, which took too much memory, is
                not used.
        """
        self.epoch_read = 0
        self._not_before = 0.0  # a new attempt, perhaps in halves, is saved from its first epoch
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
            log.warning("%s cannot be read (%s): training starts over", self._file, error)
            return None
        shapes = [array.shape for array in network]
        if facts["about"] != self._about or shapes != [tuple(v.shape) for v in model.variables]:
            log.warning("%s is from another training: training starts over", self._file)
            return None
        if progress.parts < parts:
            return None
        self.epoch_read = progress.epoch
        return Saved(progress, network, optimizer)

    def write(self, progress: Progress, model: keras.Model, trained: keras.Model) -> None:
        """Replace the checkpoint, unless it is so recent that writing would take too much time.

        If writing fails, the old one is kept, a warning is logged, and training continues.
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
            log.warning("no checkpoint of epoch %d: %s", progress.epoch, error)
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _MOST_TIME


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
