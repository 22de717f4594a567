"""The run tree: one study run, and under it one run per trial.

Nothing here knows Optuna: a trial's state arrives as a string, and only the table `STATUS` turns
it into the status of a run.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, ViewType

from fer_search.errors import StoreError
from fer_search.results import EpochMetrics
from fer_search.tracking import store
from fer_search.tracking.logged_run import LoggedRun
from fer_search.trials import TrialSummary

STATUS: Mapping[str, str] = {
    "COMPLETE": "FINISHED",
    "PRUNED": "KILLED",
    "FAIL": "FAILED",
    "WAITING": "SCHEDULED",
    "RUNNING": "RUNNING",
}
"""State of a trial -> status of its run. A trial that was given back waits to be taken again."""

PARENT = "mlflow.parentRunId"
_STUDY, _NUMBER = "optuna.study", "optuna.trial_number"
_STATE = "optuna.trial_state"
_OPENINGS = "test_openings"
_EPOCHS_AT_ONCE = 100
"""Epochs logged in one call, in which MLflow accepts 1,000 metrics."""


class TrialRun(LoggedRun):
    """The run of one trial.

    Args:
        client: Client of the store that holds the run.
        run: The run as the store has it.
        is_new: Whether nothing can have been logged to it yet.
    """

    def __init__(self, client: MlflowClient, run: Run, *, is_new: bool = False) -> None:
        super().__init__(client, run)
        self.is_new = is_new
        logged = [] if is_new else client.get_metric_history(self.run_id, "epoch/val_macro_f1")
        self._logged_epochs = max((metric.step for metric in logged), default=0)

    def log_epochs(self, epochs: Sequence[EpochMetrics]) -> None:
        """Log epochs in order; those logged before a restart stay as they were."""
        new = [epoch for epoch in epochs if epoch.epoch > self._logged_epochs]
        for start in range(0, len(new), _EPOCHS_AT_ONCE):
            some = new[start : start + _EPOCHS_AT_ONCE]
            metrics = [
                Metric(name, float(value), int(1000 * epoch.ended_at), epoch.epoch)
                for epoch in some
                for name, value in epoch.metrics().items()
            ]
            self.client.log_batch(self.run_id, metrics=metrics)
            self._logged_epochs = some[-1].epoch

    def epochs(self) -> list[EpochMetrics]:
        """Read back the logged epochs in order; what is not known is NaN."""
        values: dict[int, dict[str, float]] = {}
        names = {field.name for field in dataclasses.fields(EpochMetrics)} - {"epoch", "ended_at"}
        for name in names:
            for metric in self.client.get_metric_history(self.run_id, f"epoch/{name}"):
                known = values.setdefault(metric.step, dict.fromkeys(names, np.nan))
                known |= {name: metric.value, "ended_at": metric.timestamp / 1000}
        return [EpochMetrics(epoch=epoch, **values[epoch]) for epoch in sorted(values)]

    def end_as(self, state: str, tags: Mapping[str, str] | None = None) -> None:
        """End the run, or set it back to waiting, by the trial's `state` (a key of `STATUS`)."""
        self.set_tags({_STATE: state} | dict(tags or {}))
        if STATUS[state] == "SCHEDULED":
            self.client.update_run(self.run_id, status="SCHEDULED")
        else:
            self.end(STATUS[state])


class StudyRun(LoggedRun):
    """The run of a study, the parent of its trial runs."""

    @classmethod
    def of(cls, client: MlflowClient, study: str, run_id: str) -> Self:
        """Open the run of an existing study.

        Raises:
            StoreError: If this store does not hold the run.
        """
        if not store.holds(client, run_id):
            raise StoreError(
                f"study {study} belongs to run {run_id}, which is not in {client.tracking_uri}",
                hint="set MLFLOW_TRACKING_URI to the store that the study was started in",
            )
        return cls(client, client.get_run(run_id))

    def trial_run(
        self, study: str, number: int, run_id: str | None, *, is_new: bool = False
    ) -> TrialRun:
        """Open the run of a trial: the one it had before a restart, or a new one.

        Args:
            study: Name of the study.
            number: Number of the trial.
            run_id: Id of the trial's run, if it is known to have one.
            is_new: Whether the trial cannot have one, so that none needs to be looked for.
        """
        run = self.client.get_run(run_id) if run_id else None if is_new else self._find(number)
        if run is None:
            tags = {PARENT: self.run_id, _STUDY: study, _NUMBER: str(number), _STATE: "RUNNING"}
            run = self.client.create_run(
                self.experiment_id, tags=tags, run_name=f"trial-{number:03d}"
            )
            return TrialRun(self.client, run, is_new=True)
        trial_run = TrialRun(self.client, run)
        self.client.update_run(trial_run.run_id, status="RUNNING")
        trial_run.set_tags({_STATE: "RUNNING"})
        return trial_run

    def open_test(self, trial: int | str, why: str) -> int:
        """Record that the test set is about to be opened, before it is.

        Args:
            trial: Number of the trial whose model will be evaluated on it.
            why: The reason, for the record.

        Returns:
            How often it has been opened in this study, including this time.
        """
        when = datetime.datetime.now(datetime.UTC).isoformat()
        opening = {"trial": int(trial), "at": when, "why": why}
        self.log_json(
            opening, f"{_OPENINGS}/{when}-{uuid.uuid4().hex}.json"
        )  # two at once: two files
        openings = len(self.openings())
        self.set_tags({_OPENINGS: openings})
        return openings

    def openings(self) -> list[dict[str, Any]]:
        """Read what `open_test` recorded, in order: `trial`, `at` and `why`."""
        names = [file.path for file in self.client.list_artifacts(self.run_id, _OPENINGS)]
        return [self.read_json(name) for name in sorted(names)]

    def existing(self, run_id: str) -> TrialRun:
        """Open the run of a trial that is known to have one."""
        return TrialRun(self.client, self.client.get_run(run_id))

    def completed(self) -> dict[int, dict[str, float]]:
        """Read the metrics of completed trials' runs, by number of the trial."""
        runs = self._children("attributes.status = 'FINISHED'")
        return {int(run.data.tags[_NUMBER]): dict(run.data.metrics) for run in runs}

    def repair(self, trials: Callable[[], Sequence[TrialSummary]]) -> list[str]:
        """Give every run that is RUNNING, but not being trained, the status of its trial.

        A run that a live worker still delivers gets it a little early; the worker sets it again.

        Args:
            trials: Returns the trials as they are now, RUNNING only while a live process trains
                them. A run whose trial is not among them is left alone.

        Returns:
            Names of the repaired runs.
        """
        repaired = []
        for run in self._children("attributes.status = 'RUNNING'"):
            number = run.data.tags.get(_NUMBER)
            now = (trial for trial in trials() if str(trial.number) == number)
            trial = next(now, None)  # looked up now: a worker may have taken it since
            if trial and trial.state != "RUNNING":
                TrialRun(self.client, run).end_as(trial.state, trial.failure)
                repaired.append(run.info.run_name)
        return repaired

    def _find(self, number: int) -> Run | None:
        """Find a trial's run by its tag, even if its process died just after creating it."""
        return next(iter(self._children(f"tags.`{_NUMBER}` = '{number}'")), None)

    def _children(self, condition: str) -> list[Run]:
        return list(
            store.every(
                lambda token: self.client.search_runs(
                    [self.experiment_id],
                    f"tags.`{PARENT}` = '{self.run_id}' AND {condition}",
                    ViewType.ACTIVE_ONLY,
                    max_results=1000,
                    page_token=token,
                )
            )
        )


def study_run_of(client: MlflowClient, run_id: str) -> StudyRun | None:
    """Find the study run above a trial's run; None if either has been deleted."""
    if not store.holds(client, run_id):
        return None
    parent = client.get_run(run_id).data.tags.get(PARENT, "")
    return StudyRun(client, client.get_run(parent)) if store.holds(client, parent) else None


def place_of(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Read where a trial's run belongs: `study` and `trial_number`."""
    tags = client.get_run(run_id).data.tags
    return {"study": tags[_STUDY], "trial_number": tags[_NUMBER]}
