"""A study at work, without workers: what the search does meanwhile."""

import sqlite3
import time

import pytest

from fer_search.study.studies import Study
from fer_search.workflows.running import run_trials


class Crew:
    """Ends a trial between two polls, like a worker elsewhere."""

    def __init__(self, study, polls):
        self._study, self._polls, self.has_stopped = study, polls, False

    def watch(self, on_poll, on_death):
        for _ in range(self._polls):
            on_poll()
            if trial := self._study.take():
                trial.prune()

    def stop(self):
        self.has_stopped = True


def run(study, study_run, crew):
    return run_trials(study, study_run, lambda config, logs: crew, "sqlite:///optuna.db")


@pytest.mark.parametrize(("owner", "call"), [(Study, "trials"), (Study, "change")])
def test_a_database_that_is_locked_for_a_moment_ends_nothing(
    study, study_run, monkeypatch, owner, call
):
    crew, true, calls = Crew(study, polls=3), getattr(owner, call), []

    def sometimes(self, *arguments, **named):
        calls.append(1)
        if len(calls) % 3 == 2:
            raise sqlite3.OperationalError("database is locked")
        return true(self, *arguments, **named)

    monkeypatch.setattr("fer_search.tracking.outage._FIRST_PAUSE", 0.01)
    with monkeypatch.context() as broken:
        broken.setattr(owner, call, sometimes)
        assert not run(study, study_run, crew)
    assert crew.has_stopped
    assert len(calls) > 2
    assert {trial.state for trial in study.trials()} == {"PRUNED"}


def test_the_time_that_a_study_took_is_kept_and_ends_it(study, study_run):
    study.change(search=study.search.model_copy(update={"timeout": 0.2}).to_params())
    crew = Crew(study, polls=9)
    crew.watch = lambda on_poll, on_death: [on_poll() or time.sleep(0.1) for _ in range(9)]
    assert run(study, study_run, crew)
    assert study.facts["seconds_used"] > 0.2
    assert study.take() is None, "a worker from elsewhere would go on"


def test_who_is_told_to_stop_does_not_wait_for_a_store(study, study_run, monkeypatch):
    crew = Crew(study, polls=1)

    def stopped(on_poll, on_death):
        monkeypatch.setattr(Study, "release_dead", away)
        raise KeyboardInterrupt

    crew.watch = stopped
    began = time.monotonic()
    with pytest.raises((KeyboardInterrupt, sqlite3.OperationalError)):
        run(study, study_run, crew)
    assert crew.has_stopped
    assert time.monotonic() - began < 10


def away(_):
    raise sqlite3.OperationalError("database is locked")
