"""What the search does while its trials run, without real workers."""

import sqlite3
import time

import pytest

from fer_search.errors import StudyStopped
from fer_search.study.study import Study
from fer_search.tracking.models import MODEL_TAG
from fer_search.trials import TrialSummary
from fer_search.workflows.finish import _delivered
from fer_search.workflows.running import run_trials
from fer_search.workflows.search import _ending, _resumable


class WorkerPool:
    """Ends a trial between two polls, like a worker on another machine."""

    def __init__(self, study, polls):
        self._study, self._polls, self.has_stopped = study, polls, False

    def watch(self, on_poll, on_death):
        for _ in range(self._polls):
            on_poll()
            if trial := self._study.take():
                trial.prune()

    def stop(self):
        self.has_stopped = True


def run(study, study_run, pool):
    return run_trials(study, study_run, lambda config, logs: pool, "sqlite:///optuna.db")


@pytest.mark.parametrize(("owner", "call"), [(Study, "trials"), (Study, "change")])
def test_a_database_that_is_locked_for_a_moment_ends_nothing(
    study, study_run, monkeypatch, owner, call
):
    pool, true, calls = WorkerPool(study, polls=3), getattr(owner, call), []

    def sometimes(self, *arguments, **named):
        calls.append(1)
        if len(calls) % 3 == 2:
            raise sqlite3.OperationalError("database is locked")
        return true(self, *arguments, **named)

    monkeypatch.setattr("fer_search.tracking.outage._FIRST_PAUSE", 0.01)
    with monkeypatch.context() as broken:
        broken.setattr(owner, call, sometimes)
        assert not run(study, study_run, pool)
    assert pool.has_stopped
    assert len(calls) > 2
    assert {trial.state for trial in study.trials()} == {"PRUNED"}


def test_the_time_that_a_study_took_is_kept_and_ends_it(study, study_run):
    study.change(search=study.search.model_copy(update={"timeout": 0.2}).to_params())
    pool = WorkerPool(study, polls=9)
    pool.watch = lambda on_poll, on_death: [on_poll() or time.sleep(0.1) for _ in range(9)]
    assert run(study, study_run, pool)
    assert study.facts["seconds_used"] > 0.2
    assert study.take() is None, "a worker from elsewhere would go on"


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "KILLED"), (StudyStopped, "FAILED"), (ZeroDivisionError, "FAILED")],
)
def test_a_stop_stays_a_stop_while_a_store_is_away(
    study, study_run, monkeypatch, caplog, error, status
):
    def stopped(on_poll, on_death):
        monkeypatch.setattr(Study, "release_dead", away)
        raise error("for this reason")

    pool = WorkerPool(study, polls=1)
    pool.watch = stopped
    began = time.monotonic()
    with pytest.raises(error), _ending(study_run), _resumable(study, study_run, "the command"):
        run(study, study_run, pool)
    assert pool.has_stopped
    assert time.monotonic() - began < 10
    assert study_run.client.get_run(study_run.run_id).info.status == status
    assert study.facts["seconds_used"] > 0
    assert "left for the next start: database is locked" in caplog.text


def away(_):
    raise sqlite3.OperationalError("database is locked")


def test_the_best_model_is_waited_for_while_a_worker_elsewhere_stores_it(
    study, study_run, monkeypatch, capsys
):
    run = study_run.trial_run("s", 0, None)
    best = TrialSummary(
        number=0, state="COMPLETE", value=0.5, params={}, curve={}, run_id=run.run_id
    )
    with pytest.raises(StudyStopped, match="its model is not stored yet"):
        _delivered(study_run, best, seconds=0.1)
    monkeypatch.setattr(time, "sleep", lambda _: run.set_tags({MODEL_TAG: "m-1"}))
    assert _delivered(study_run, best, seconds=60) == "m-1"
    assert capsys.readouterr().out.count("Waiting for the model of trial 0") == 2
