"""The contenders of `benchmarks.overhead`, one module each.

    python -m benchmarks.contenders.NAME URI FOLDER TRIALS SECONDS

URI is that of MLflow's tracking store. Prints the seconds of each trial as a JSON list.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from fer_search.config import SearchConfig

EPOCHS = 5
ROOT = Path(__file__).parents[2]


class Clock:
    """Records when each trial begins, and tells when the time is up.

    Args:
        seconds: Time after which no further trial should begin.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.perf_counter() + seconds
        self._starts: list[float] = []

    def begin(self) -> None:
        """Record that a trial begins and the previous one has ended."""
        self._starts.append(time.perf_counter())

    @property
    def left(self) -> float:
        """Seconds until no further trial should begin."""
        return self._until - time.perf_counter()

    @property
    def is_up(self) -> bool:
        """Whether no further trial should begin."""
        return self.left <= 0

    def print(self) -> None:
        """Print the time from each beginning to the next; the last trial ends now."""
        self.begin()
        print(json.dumps([b - a for a, b in zip(self._starts, self._starts[1:], strict=False)]))


def arguments() -> tuple[str, Path, int, Clock]:
    """Read the command line and change to the folder."""
    uri, folder, trials, seconds = sys.argv[1:]
    os.chdir(folder)
    return uri, Path(folder), int(trials), Clock(float(seconds))


def space(**more: Any) -> SearchConfig:
    """Make the search of all contenders, on synthetic faces, with the sampler most of them use."""
    fixed = {
        "data": "synthetic", "image_sizes": "48", "weights": "imagenet", "register": "none",
        "sampler": "tpe",
    }  # fmt: skip
    return SearchConfig(**(fixed | more))


def metrics(epoch: int, score: float) -> dict[str, float]:
    """Return the metrics to log for an epoch, as many as ours logs."""
    return {
        "loss": 1.0 / epoch,
        "accuracy": score,
        "val_loss": 1.0 / epoch,
        "val_accuracy": score,
        "val_macro_f1": score,
        "learning_rate": 1e-3,
        "images_per_second": 100.0,
    }
