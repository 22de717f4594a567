"""Run a study: keep workers at it, show progress on the terminal, and repair what a kill left."""

from __future__ import annotations

import logging
import time

from fer_search import spool
from fer_search.config import WorkerConfig
from fer_search.progress import Progress
from fer_search.study.study import Study
from fer_search.tracking.outage import attempt, patiently
from fer_search.tracking.runs import StudyRun
from fer_search.trials import n_finished
from fer_search.workflows.deliver import deliver_left
from fer_search.workflows.finish import count, log_counts
from fer_search.workflows.launcher import Launcher

log = logging.getLogger(__name__)


def run_trials(study: Study, study_run: StudyRun, launcher: Launcher, storage: str) -> bool:
    """Keep workers at a study until it is complete.

    Args:
        study: The study; repaired before, and after if nothing is raised.
        study_run: Run of the study, to which progress is logged.
        launcher: Starts the workers.
        storage: Address of the study's storage, for the workers.

    Returns:
        Whether the study's time ran out first.
    """
    patiently(lambda: repair(study, study_run))
    patiently(study.forgive)
    search, trials = study.search, patiently(study.trials)
    logs = spool.folder_of(study_run.run_id)
    spool.sweep(logs)
    counted = count(trials)
    if n_finished(trials) >= search.trials:
        return False
    began, used_before = time.monotonic(), study.facts["seconds_used"]
    pool = launcher(WorkerConfig(study=study.name, storage=storage), logs)
    with Progress(trials, n_trials=search.trials, epochs=search.epochs) as progress:

        def used() -> float:
            return float(used_before + time.monotonic() - began)

        def on_poll() -> int:
            nonlocal counted
            trials = patiently(study.trials)
            progress.update(trials)
            if (now := count(trials)) != counted:
                counted = now
                patiently(lambda: log_counts(study_run, trials))
                patiently(lambda: study.change(seconds_used=used()))
            if 0 < search.timeout < used():
                raise TimeoutError
            return n_finished(trials)

        timed_out = False
        try:
            pool.watch(on_poll, lambda: patiently(lambda: repair(study, study_run)))
        except TimeoutError:
            timed_out = True
        except BaseException:  # the caller repairs; the store and the terminal may be away
            pool.stop()
            attempt(lambda: study.change(seconds_used=used()))
            attempt(lambda: progress.update(study.trials()))
            raise
        pool.stop()
        patiently(lambda: repair(study, study_run))
        patiently(lambda: study.change(seconds_used=used()))
        progress.update(patiently(study.trials))
    return timed_out


def repair(study: Study, study_run: StudyRun) -> None:
    """Finish what dead processes left, and correct the states of trials and runs."""
    deliver_left(study, study_run)
    study.release_dead()
    repaired = study_run.repair(study.trials)
    if repaired:
        log.info("repaired: %s", ", ".join(repaired))
