"""Everything known about a study, gathered from both stores: the content of a report."""

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
"""Keras's default backend."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """Predictions of the chosen trial's model on the test set, from its one opening."""

    trial: int
    """Number of the trial."""
    views: Mapping[int, Evaluation]
    """Evaluations by the number of views of each image; 1 is always there."""
    origins: np.ndarray
    """(N,) strings: where each image comes from."""

    @property
    def evaluation(self) -> Evaluation:
        """Evaluation on the unchanged images."""
        return self.views[1]

    @property
    def most_frequent(self) -> float:
        """Accuracy of always answering the most frequent emotion."""
        return float(np.bincount(self.evaluation.labels).max() / len(self.origins))

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the scores, see `Evaluation.intervals`."""
        return self.evaluation.intervals()

    def mistakes(self, most: int) -> np.ndarray:
        """Return the positions of the most confident wrong predictions, most confident first."""
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
    """The study's record: digests of data and space, and `seconds_used`."""
    run_id: str
    """MLflow run of the study."""
    began: float | None
    """When the run began, in seconds since the epoch."""
    made: float
    """When the findings were gathered, in seconds since the epoch."""
    trials: Sequence[TrialSummary]
    """All trials."""
    importances: Mapping[str, float]
    """Importances by parameter; empty if they cannot be computed."""
    metrics: Mapping[int, Mapping[str, float]]
    """MLflow's metrics of completed trials, by trial number."""
    curves: Sequence[EpochMetrics]
    """Epochs of the best trial."""
    data: Mapping[str, Any]
    """The report of `splits.split`; empty if the run does not have it."""
    environment: Mapping[str, Any]
    """The result of `runtime.environment`, or the little that the tags of older runs hold."""
    openings: Sequence[Mapping[str, Any]]
    """Every opening of the test set: trial, time and reason."""
    tested: Tested | None
    """None until the test set has been opened."""
    splits: Splits | None
    """The images, if they could be loaded again exactly as they were."""
    no_images: str
    """Why they could not."""

    @property
    def name(self) -> str:
        """Name of the study."""
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
        """Number of trials that count towards the requested number."""
        return self.states["COMPLETE"] + self.states["PRUNED"]

    def is_opened_for(self, trial: TrialSummary) -> bool:
        """Return whether a search or a promotion showed the test images to a trial's model."""
        return str(trial.number) in [str(each["trial"]) for each in self.openings]

    @property
    def device(self) -> str:
        """Device on which the search ran; empty if unknown."""
        return str(self.environment.get("device", ""))

    @property
    def commit(self) -> str:
        """Commit of the program that ran the search; empty if unknown."""
        return str(self.environment.get("commit") or "")

    @property
    def seconds(self) -> float:
        """How long the search was at work, over all resumes.

        The study's own figure is as of the last trial that ended, and omits separate workers.
        """
        used = float(self.facts["seconds_used"])
        return max(used, seconds_at_work(self.trials, self.made))

    @property
    def command(self) -> str:
        """Command that repeats the search: every setting that is not at its default.

        Keras's backend is not a setting but an environment variable.
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
