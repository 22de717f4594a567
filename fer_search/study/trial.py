"""One trial held by this process: ask it for values, report its epochs, end it once.

    WAITING --take--> RUNNING --complete--> COMPLETE
       ^                 |------prune-----> PRUNED
       `---give_back-----'------fail------> FAIL

`queue.py` hands out trials; only this module tells Optuna how one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer_search.errors import TrialFailed
from fer_search.results import EpochMetrics, TrialResult
from fer_search.study import leases
from fer_search.study.draft import Draft
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.samplers import trial_seed

TrialPruned = optuna.TrialPruned

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
LET_IN = "let_in"
"""Trial attribute: `since` of the lease under which the budget had room for it."""
ORIGIN = "origin"
"""Trial attribute: origin of a first point; trials that a sampler proposed have none."""
PRUNED_AFTER = "pruned_after"
"""Trial attribute: the epoch after which the pruner stopped it, remembered across restarts."""

Answer = TypeVar("Answer")


class Trial:
    """A running trial that this process holds: suggest from it, report to it, end it once.

    Ending it again changes nothing.

    Args:
        storage: Storage of the study.
        study: Optuna's study.
        seed: Seed of the study.
        trial_id: Optuna's id of the trial.
        lease: This process's lease on the trial.
        is_new: Whether no process has held it before.
    """

    def __init__(
        self,
        storage: optuna.storages.RDBStorage,
        study: optuna.Study,
        seed: int,
        trial_id: int,
        lease: dict[str, Any],
        *,
        is_new: bool,
    ) -> None:
        self._trial = optuna.trial.Trial(study, trial_id)
        self._storage, self._id = storage, trial_id
        known = self._trial.storage.get_trial(trial_id)
        self._reported = max(known.intermediate_values, default=0)
        self._pruned_after = known.user_attrs.get(PRUNED_AFTER)
        self._heartbeat = leases.Heartbeat(storage, trial_id, lease)
        self.since: float = lease["since"]
        """When this process took the trial."""
        self.is_new = is_new
        """Whether it cannot have a run in MLflow yet."""
        self._draft = Draft(storage, study, trial_id)
        self._has_ended = False
        self.number: int = self._trial.number
        self.seed = trial_seed(seed, self.number)
        """Seed of everything random in this trial."""

    def ask(self, read: Callable[[OptunaHyperParameters], Answer]) -> Answer:
        """Let `read` ask for values; values that were suggested before stay as they were.

        All values are written together when it returns or raises. Values asked of its argument
        later are written immediately, one by one.

        Returns:
            What `read` returned.
        """
        storage = self._trial.storage
        self._trial.storage = cast(optuna.storages.BaseStorage, self._draft)
        try:
            return read(OptunaHyperParameters(self._trial))
        finally:
            self._trial.storage = storage
            self._draft.write()

    @property
    def origin(self) -> str | None:
        """Origin of its parameters, if no sampler proposed them."""
        return self._trial.user_attrs.get(ORIGIN)

    @property
    def takeovers(self) -> int:
        """How often this trial was taken from a dead process."""
        return int(self._trial.user_attrs.get("takeovers", 0))

    @property
    def memory_kills(self) -> int:
        """How often its process died while the kernel was killing processes for memory."""
        return int(self._trial.user_attrs.get("memory_kills", 0))

    @property
    def run_id(self) -> str | None:
        """MLflow run of this trial, once it has one."""
        return self._trial.user_attrs.get("run_id")

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self._trial.set_user_attr("run_id", run_id)

    def let_in(self) -> None:
        """Record that the budget has room for this trial under its current lease."""
        self._trial.set_user_attr(LET_IN, self.since)

    def progress(self, epoch: int, batch: int, n_batches: int) -> None:
        """Tell observers where training is; costs nothing, since the next beat carries it."""
        self._heartbeat.progress = (epoch, batch, n_batches)

    def check_lease(self) -> None:
        """Check that no other process has taken the trial.

        Raises:
            LeaseLost: If one has.
        """
        if self._heartbeat.is_lost:
            raise leases.LeaseLost

    def report(self, epoch: EpochMetrics, *, is_last: bool = False) -> None:
        """Report an epoch to the pruner; epochs reported before a restart are skipped.

        Args:
            epoch: Metrics of the epoch that has ended.
            is_last: Whether no epoch follows. Pruning would then save nothing, so the trial, whose
                best epoch may be an earlier one, completes. The pruner is still asked, so that
                other trials are measured against it.

        Raises:
            TrialPruned: If the pruner stops the trial.
            LeaseLost: If another process has taken this trial.
        """
        self.check_lease()
        if epoch.epoch > self._reported and epoch.epoch != self._pruned_after:
            self._trial.report(epoch.val_macro_f1, step=epoch.epoch)
            if self._trial.should_prune() and not is_last:
                self._pruned_after = epoch.epoch
        if epoch.epoch == self._pruned_after:  # halving would not decide so again
            self._trial.set_user_attr(PRUNED_AFTER, epoch.epoch)
            raise TrialPruned(f"pruned after epoch {epoch.epoch}")

    def complete(self, result: TrialResult) -> None:
        """End the trial with the objective of `result`; its accuracy is kept as an attribute."""
        accuracy = result.validation.accuracy
        self._tell(TrialState.COMPLETE, result.objective, {"val_accuracy": accuracy})

    def prune(self) -> None:
        """End the trial as pruned; Optuna keeps the last reported value."""
        self._tell(TrialState.PRUNED)

    def fail(self, failure: TrialFailed) -> None:
        """End the trial as failed, without a value."""
        why = {"failure.kind": failure.kind, "failure.message": failure.message}
        self._tell(TrialState.FAIL, attributes=why)

    def give_back(self) -> bool:
        """Return the trial to the queue: same number, same parameters, same run, any worker.

        Returns:
            False if it has already ended or is another process's, and so stays as it is.
        """
        lease = self._stop_beating()
        if self._has_ended or lease is None:
            return False
        self._storage.set_trial_state_values(self._id, TrialState.WAITING)
        return leases.swap(self._storage, self._id, lease, None)

    def let_go(self) -> None:
        """Stop renewing the lease, without using the storage, which may be unreachable."""
        self._heartbeat.stop()

    def _stop_beating(self) -> dict[str, Any] | None:
        """Stop the heartbeat; return the lease, or None if another process has taken the trial.

        May be called again after an error; the lease is then as the first attempt left it.
        """
        lease = self._heartbeat.stop()
        last = lease | {"beat": time.time(), "progress": None}
        if leases.swap(self._storage, self._id, lease, last):
            return last
        stored = self._storage.get_trial(self._id).user_attrs[leases.ATTRIBUTE]
        return stored if leases.is_same_owner(stored, lease) else None

    def _tell(
        self,
        state: TrialState,
        value: float | None = None,
        attributes: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """End the trial, unless it has ended; may be called again after an error."""
        if self._has_ended:
            return
        if self._stop_beating() is None:
            raise leases.LeaseLost
        if not self._storage.get_trial(self._id).state.is_finished():
            for key, what in attributes.items():
                self._trial.set_user_attr(key, what)
            self._trial.study.tell(self.number, value, state=state)
        self._has_ended = True


class Seen(NamedTuple):
    """A trial as it was when it was read."""

    trial: FrozenTrial
    is_held: bool
    """Whether a live process held it then."""


def look(study: optuna.Study) -> list[Seen]:
    """Read all trials of a study, in the order of their numbers."""
    return [_seen(study, trial) for trial in study.get_trials(deepcopy=False)]


def _seen(study: optuna.Study, trial: FrozenTrial) -> Seen:
    """Find out whether a live process holds a trial that was read a moment ago.

    Its process may have ended the trial and exited since. So a trial whose process is gone is read
    again: if it is still unfinished then, it has been abandoned.
    """
    while trial.state in UNFINISHED and (lease := trial.user_attrs.get(leases.ATTRIBUTE)):
        if not leases.is_free(lease):
            return Seen(trial, is_held=True)
        trial = study._storage.get_trial(trial._trial_id)
        if trial.user_attrs[leases.ATTRIBUTE] == lease:
            break
    return Seen(trial, is_held=False)
