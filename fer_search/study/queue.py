"""The queue of a study: hands out trials, within the budget, each to one process.

The storage is the queue. A worker takes the first unfinished trial whose lease is free (enqueued,
given back, or left by a dead process); if there is none, it creates a new one while the budget
lasts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fer_search.config import SearchConfig
from fer_search.errors import StudyStopped, TrialFailed
from fer_search.study import leases
from fer_search.study.trial import FINISHED, LET_IN, UNFINISHED, Seen, Trial, look

FAILURES_IN_A_ROW = 5
"""Number of consecutive failed trials that stops a study."""
MEMORY_KILLS = 1
"""How often a trial is retried, in half batches, after the kernel killed its worker for memory."""


class Queue:
    """Hands out the trials of a study.

    Args:
        storage: Storage of the study.
        study: Optuna's study.
        settings: Returns the current settings of the study.
        failures_since: Returns the time from which failures count, in seconds since 1970.
        is_late: Tells whether the study's time is up.
    """

    def __init__(
        self,
        storage: optuna.storages.RDBStorage,
        study: optuna.Study,
        settings: Callable[[], SearchConfig],
        failures_since: Callable[[], float],
        is_late: Callable[[], bool],
    ) -> None:
        self._storage, self._study = storage, study
        self._settings, self._failures_since, self._is_late = settings, failures_since, is_late

    def take(self) -> Trial | None:
        """Take the next trial, waiting for trials of other workers while they might still fail.

        Returns:
            A running trial of this process, or None when the budget is spent or the time is up.

        Raises:
            StudyStopped: After `FAILURES_IN_A_ROW` failures since a search opened this study.
        """
        while True:
            budget, seen = self._settings().trials, look(self._study)
            if self._is_late():
                return None
            self._stop_if_hopeless([each.trial for each in seen])
            done = sum(each.trial.state in FINISHED for each in seen)
            running = sum(each.is_held for each in seen)
            if done >= budget:
                return None
            if done + running < budget:
                taken = self._take_left(seen) or self._ask()
                try:
                    if self._fits(taken, budget):
                        return taken
                    taken.give_back()
                except BaseException:  # so that the next attempt finds it free
                    taken.let_go()
                    raise
                time.sleep(random.random())  # so that two that give way do not collide forever
            else:
                time.sleep(1)

    def take_number(self, number: int) -> Trial | None:
        """Take a trial that has been trained, if it is unfinished and free, only to end it."""
        seen = look(self._study)[number]
        return self._seize(seen.trial, to_train=False) if _is_free(seen) else None

    def release_dead(self) -> None:
        """Give back every trial that a dead process left running."""
        free = (each.trial for each in look(self._study) if _is_free(each))
        for trial in self._seized(each for each in free if each.state == TrialState.RUNNING):
            trial.give_back()

    def _take_left(self, seen: Sequence[Seen]) -> Trial | None:
        return next(self._seized(each.trial for each in seen if _is_free(each)), None)

    def _seized(self, trials: Iterator[FrozenTrial]) -> Iterator[Trial]:
        for each in trials:
            trial = self._seize(each)
            if trial is None:
                continue
            if trial.memory_kills > MEMORY_KILLS:
                trial.fail(TrialFailed("out_of_memory", "the kernel killed its worker twice"))
            elif trial.takeovers > self._settings().retries:
                trial.fail(TrialFailed("killed", f"its worker died {trial.takeovers} times"))
            else:
                yield trial

    def _seize(self, trial: FrozenTrial, *, to_train: bool = True) -> Trial | None:
        """Take a free unfinished trial for this process, unless another process was faster."""
        old, new = trial.user_attrs.get(leases.ATTRIBUTE), leases.mine()
        if not leases.swap(self._storage, trial._trial_id, old, new):
            return None
        trial = self._storage.get_trial(trial._trial_id)
        if trial.state.is_finished():  # its owner ended it, and exited, since it was read
            return None
        if trial.state == TrialState.WAITING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        elif to_train and not leases.is_same_process(old, new):  # its owner died
            self._count(trial, "takeovers")
            if old and leases.was_short_of_memory(old):
                self._count(trial, "memory_kills")
        return self._held(trial._trial_id, new, is_new=False)

    def _count(self, trial: FrozenTrial, attribute: str) -> None:
        count = trial.user_attrs.get(attribute, 0) + 1
        self._storage.set_trial_user_attr(trial._trial_id, attribute, count)

    def _fits(self, trial: Trial, budget: int) -> bool:
        """Tell whether the budget has room for `trial`; of several for one place at most one fits.

        Trials taken earlier come first. But a lease may become visible long after its timestamp,
        when others have already been let in. So a trial that is let in is marked, and checked
        again: the last one to be marked sees all the others.
        """
        if self._ahead(trial) >= budget:
            return False
        trial.let_in()
        return self._ahead(trial) < budget

    def _ahead(self, trial: Trial) -> int:
        """Count the trials that were taken before `trial`, let in, or finished."""
        mine = (trial.since, trial.number)

        def is_ahead(seen: Seen) -> bool:
            other = seen.trial
            if other.number == trial.number or not seen.is_held:
                return other.state in FINISHED
            since = other.user_attrs[leases.ATTRIBUTE]["since"]
            return (since, other.number) < mine or other.user_attrs.get(LET_IN) == since

        return sum(map(is_ahead, look(self._study)))

    def _ask(self) -> Trial:
        """Create a trial that is under lease from the start."""
        lease = leases.mine()
        born = optuna.trial.create_trial(
            state=TrialState.RUNNING, user_attrs={leases.ATTRIBUTE: lease}
        )
        trial_id = self._storage.create_new_trial(self._study._study_id, template_trial=born)
        return self._held(trial_id, lease, is_new=True)

    def _held(self, trial_id: int, lease: dict[str, Any], *, is_new: bool) -> Trial:
        seed = self._settings().seed
        return Trial(self._storage, self._study, seed, trial_id, lease, is_new=is_new)

    def _stop_if_hopeless(self, trials: Sequence[FrozenTrial]) -> None:
        ended = [(t.datetime_complete.timestamp(), t) for t in trials if t.datetime_complete]
        now = sorted((end, t.number, t) for end, t in ended if end >= self._failures_since())
        last = [trial for _, _, trial in now[-FAILURES_IN_A_ROW:]]
        if len(last) == FAILURES_IN_A_ROW and all(t.state == TrialState.FAIL for t in last):
            raise StudyStopped(
                f"the last {FAILURES_IN_A_ROW} trials failed; the latest: "
                f"{last[-1].user_attrs.get('failure.message', 'no reason recorded')}",
                hint="fix the cause, then resume the study",
            )


def _is_free(seen: Seen) -> bool:
    """Tell whether a trial is waiting or was left by a dead process."""
    return seen.trial.state in UNFINISHED and not seen.is_held
