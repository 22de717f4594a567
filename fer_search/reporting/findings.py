"""What is known of a study, gathered from both stores: the values that a report is made of."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_search.config import SearchConfig
from fer_search.cost import seconds_at_work
from fer_search.data.splits import Splits
from fer_search.results import EpochMetrics, Evaluation
from fer_search.trials import TrialSummary, best_of

_BACKEND = "tensorflow"
"""Keras's own default."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """What the chosen trial answered on the test pictures, at its one opening."""

    trial: int
    """Number of the trial."""
    views: Mapping[int, Evaluation]
    """Evaluations by the number of views of each picture; 1 is always there."""
    origins: np.ndarray
    """(N,) strings: where each picture comes from."""

    @property
    def evaluation(self) -> Evaluation:
        """Of the pictures as they are."""
        return self.views[1]

    @property
    def most_frequent(self) -> float:
        """Accuracy of always answering the most frequent emotion."""
        return float(np.bincount(self.evaluation.labels).max() / len(self.origins))

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the scores, by the bootstrap over pictures."""
        return self.evaluation.intervals()

    def mistakes(self, most: int) -> np.ndarray:
        """Positions of the wrong answers that the model was surest of, the surest first."""
        seen = self.evaluation
        wrong = np.flatnonzero(seen.predictions != seen.labels)
        sure = seen.probabilities.max(axis=1)[wrong]
        chosen: np.ndarray = wrong[np.argsort(-sure, kind="stable")][:most]
        return chosen


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """A study as it stood when the report was made."""

    search: SearchConfig
    """Its settings."""
    facts: Mapping[str, Any]
    """Digests of data and space, and `seconds_used`, as the study holds them."""
    run_id: str
    """MLflow run of the study."""
    began: float | None
    """When the run began, in seconds since the epoch."""
    made: float
    """When all this was gathered, in seconds since the epoch."""
    trials: Sequence[TrialSummary]
    """All trials."""
    importances: Mapping[str, float]
    """By parameter; empty if they cannot be told."""
    metrics: Mapping[int, Mapping[str, float]]
    """Metrics of completed trials as MLflow has them, by number of the trial."""
    curves: Sequence[EpochMetrics]
    """Epochs of the best trial."""
    data: Mapping[str, Any]
    """What `splits.split` reported; empty if the run does not keep it."""
    environment: Mapping[str, Any]
    """What `runtime.environment` said, or the little that the tags of older runs tell."""
    openings: Sequence[Mapping[str, Any]]
    """How often test was opened: trial, time and reason."""
    tested: Tested | None
    """None as long as test was not opened."""
    splits: Splits | None
    """The pictures, if they could be had again just as they were."""
    no_pictures: str
    """Why they could not."""

    @property
    def name(self) -> str:
        """Of the study."""
        return self.search.study

    @property
    def best(self) -> TrialSummary | None:
        """The completed trial with the highest value."""
        return best_of(self.trials)

    @property
    def states(self) -> Counter[str]:
        """Number of trials by state."""
        return Counter(trial.state for trial in self.trials)

    @property
    def finished(self) -> int:
        """Trials that count towards what was asked for."""
        return self.states["COMPLETE"] + self.states["PRUNED"]

    def is_opened_for(self, trial: TrialSummary) -> bool:
        """Whether the model of a trial was shown the test pictures, by a search or a promotion."""
        return str(trial.number) in [str(each["trial"]) for each in self.openings]

    @property
    def device(self) -> str:
        """What it ran on; empty if that is not known."""
        return str(self.environment.get("device", ""))

    @property
    def commit(self) -> str:
        """Of the program that ran it; empty if that is not known."""
        return str(self.environment.get("commit") or "")

    @property
    def seconds(self) -> float:
        """How long the search was at work, over all resumes.

        The study holds it as of the last trial that ended, and without workers of their own.
        """
        used = float(self.facts["seconds_used"])
        return max(used, seconds_at_work(self.trials, self.made))

    @property
    def command(self) -> str:
        """What starts the same search anew: every setting that is not at its default.

        Keras's backend is none of them, but named by a variable.
        """
        default, asked = SearchConfig().to_params(), self.search.to_params()
        given = {
            name: value
            for name, value in asked.items()
            if value != default[name] and name not in ("study", "storage")
        }
        parameters = (part for key, value in given.items() for part in ("-P", f"{key}={value}"))
        backend = str(self.environment.get("backend", _BACKEND))
        variable = [] if backend == _BACKEND else [f"KERAS_BACKEND={shlex.quote(backend)}"]
        return " ".join([*variable, shlex.join(["mlflow", "run", ".", *parameters])])
