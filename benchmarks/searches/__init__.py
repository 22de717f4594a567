"""The searches that `benchmarks.search` compares, each a function of a `Task`."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from fer_search.config import SearchConfig
from fer_search.data.splits import Splits
from fer_search.results import EpochMetrics

CONTENDERS = (
    "ours",
    "ours_tpe",
    "staged",
    "unprimed",
    "tpe",
    "random",
    "i_epoch",
    "hyperband",
    "bayesian",
    "ray_asha",
)


class TimeUp(BaseException):
    """The search's time is up; not an `Exception`, which a tuner would take for a failed trial."""


@dataclasses.dataclass
class Task:
    """What to search, on which data, and for how long."""

    search: SearchConfig
    splits: Splits
    seed: int
    seconds: float
    folder: Path
    began: float = dataclasses.field(default_factory=time.time)

    def record(self, epoch: EpochMetrics) -> None:
        """Record the score of an epoch.

        Raises:
            TimeUp: If the time is up.
        """
        at = time.time() - self.began
        with (self.folder / "scores").open("a") as file:
            file.write(json.dumps([at, epoch.val_macro_f1]) + "\n")
        if at > self.seconds:
            raise TimeUp

    @property
    def share(self) -> float:
        """Share of the time that has passed."""
        return (time.time() - self.began) / self.seconds
