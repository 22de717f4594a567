"""One study: its settings, its trials, and what must not change.

`queue.py` hands out the trials; `trial.py` handles a single one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from fer_search.config import SearchConfig
from fer_search.errors import HyperModelError, StoreError
from fer_search.study import leases
from fer_search.study.hyperparameters import fingerprint
from fer_search.study.importances import importances_of
from fer_search.study.queue import Queue
from fer_search.study.samplers import PRUNERS, PerTrialSampler
from fer_search.study.space import declare, settled
from fer_search.study.trial import FINISHED, ORIGIN, UNFINISHED, Seen, Trial, look
from fer_search.trials import TrialSummary

RECORD = "fer_search"
"""Attribute of Optuna's study that holds its facts; studies of other programs lack it."""


class Study:
    """A study of this program, in Optuna's storage."""

    def __init__(
        self,
        storage: optuna.storages.RDBStorage,
        study: optuna.Study,
        record: Mapping[str, Any],
    ) -> None:
        self.facts = dict(record)
        """`run_id`, `train_digest`, `test_digest`, `seconds_used`, `search` (its settings),
        `opened` (since when failures count, in seconds since 1970), `space` (its fingerprint),
        `first` (points to try first)."""
        self._queue = Queue(storage, study, self._settings_now, self._failures_since, self.is_late)
        self._study = study
        self._settled: dict[str, Any] | None = None
        search = self.search
        is_primed = bool(self.facts.get("first"))
        study.sampler = PerTrialSampler(search.sampler, search.seed, after_good_ones=is_primed)
        study.pruner = PRUNERS[search.pruner](search.epochs)

    @property
    def name(self) -> str:
        """Name in the storage."""
        return self._study.study_name

    @property
    def search(self) -> SearchConfig:
        """The settings that hold for every trial."""
        return SearchConfig(**self.facts["search"])

    def check_space(self) -> None:
        """Check that the search space is the one this study began with.

        Raises:
            StoreError: If a range, a default or a condition has changed since.
        """
        if fingerprint(declare(self.search)) != self.facts["space"]:
            raise StoreError(
                f"study={self.name} was created with another search space than this version's",
                hint="start a new study (another study=…), or use the version that created it",
            )

    def resume(self, search: SearchConfig) -> None:
        """Continue with these settings."""
        self.change(search=search.to_params())
        self.enqueue_first()

    def enqueue_first(self) -> None:
        """Enqueue the points to try first, except those that a trial already has."""
        for origin, point in self.facts.get("first", ()):
            attributes = {leases.ATTRIBUTE: None, ORIGIN: origin}
            self._study.enqueue_trial(dict(point), user_attrs=attributes, skip_if_exists=True)

    def forgive(self) -> None:
        """Stop counting trials that have failed until now towards `FAILURES_IN_A_ROW`."""
        self.change(opened=time.time())

    def change(self, **facts: Any) -> None:
        """Record changed facts."""
        self.reload()
        self.facts |= facts
        self._study.set_user_attr(RECORD, self.facts)

    def reload(self) -> None:
        """Read the facts again: another process may have changed them."""
        self.facts = dict(self._study.user_attrs[RECORD])

    def take(self) -> Trial | None:
        """Take the next trial, waiting for trials of other workers while they might still fail.

        Returns:
            A running trial of this process, or None when the budget is spent or the time is up.

        Raises:
            StudyStopped: If too many trials fail in a row; see `queue.FAILURES_IN_A_ROW`.
        """
        return self._queue.take()

    def take_number(self, number: int) -> Trial | None:
        """Take a trial that has been trained, if it is unfinished and free, only to end it."""
        return self._queue.take_number(number)

    def release_dead(self) -> None:
        """Give back every trial that a dead process left running."""
        self._queue.release_dead()

    def trials(self) -> list[TrialSummary]:
        """Summarise all trials, in the order of their numbers.

        Parameters for which a custom HyperModel leaves no choice are missing if it is gone.
        """
        if self._settled is None:
            try:
                self._settled = settled(self.search)
            except HyperModelError:
                self._settled = {}
        return [_summary(seen, self._settled) for seen in look(self._study)]

    def importances(self) -> dict[str, float]:
        """Compute by how much the best trials differ in each parameter; see `importances_of`."""
        return importances_of(self.ended())

    def ended(self) -> list[FrozenTrial]:
        """Return the finished trials that have a value, as Optuna's trials."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state in FINISHED and trial.values]

    def _failures_since(self) -> float:
        return float(self.facts.get("opened", 0.0))

    def is_late(self) -> bool:
        """Tell whether the searches of this study have used its time, as of the last `reload`."""
        return bool(0 < self.search.timeout <= self.facts.get("seconds_used", 0.0))

    def _settings_now(self) -> SearchConfig:
        self.reload()
        return self.search


def _summary(seen: Seen, settled: dict[str, Any]) -> TrialSummary:
    trial, held = seen
    lease = trial.user_attrs.get(leases.ATTRIBUTE) or {}
    is_waiting = trial.state in UNFINISHED and not held  # given back, or left by a dead process
    started = None if is_waiting else trial.datetime_start
    return TrialSummary(
        number=trial.number,
        state="RUNNING" if held else "WAITING" if is_waiting else trial.state.name,
        value=trial.value if trial.state in FINISHED and trial.values else None,
        params=settled | trial.params,
        curve=trial.intermediate_values,
        accuracy=trial.user_attrs.get("val_accuracy"),
        failure={k: v for k, v in trial.user_attrs.items() if k.startswith("failure.")},
        run_id=trial.user_attrs.get("run_id"),
        progress=lease.get("progress"),
        started=started.timestamp() if started else None,
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
    )
