import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import time
from functools import partial

import numpy as np
import optuna
import pytest

from fer_search.config import SearchConfig
from fer_search.errors import StoreError, StudyStopped, TrialFailed
from fer_search.results import EpochMetrics, Evaluation, TrialResult
from fer_search.study import leases, queue, studies
from fer_search.study.space import suggest
from fer_search.study.studies import create_study, existing_study, find_study, open_storage
from fer_search.study.trial import Trial, TrialPruned, look

FACTS = {"run_id": "r", "train_digest": "a", "test_digest": "b"}


def make(trials=3, **settings):
    values = {
        "study": "s", "trials": trials, "backbones": "tiny", "weights": "none",
        "image_sizes": "48", "epochs": 4, "pruner": "none",
    } | settings  # fmt: skip
    return SearchConfig(**values)


def fresh(**settings):
    return create_study(open_storage("sqlite:///o.db"), make(**settings), FACTS)


def reopened():
    return find_study(open_storage("sqlite:///o.db"), "s")


def result(value=1.0):
    labels = np.arange(7)
    evaluation = Evaluation(labels, np.eye(7))
    epoch = epoch_of(1, value)
    return TrialResult(
        epochs=(epoch,), best_epoch=1, validation=evaluation, train_seconds=1, model_parameters=1
    )


def epoch_of(number, value=0.5):
    values = {field.name: value for field in dataclasses.fields(EpochMetrics)}
    return EpochMetrics(**values | {"epoch": number})


def finish(study, trial):
    trial.ask(partial(suggest, search=study.search, seed=trial.seed))
    trial.complete(result())


def test_takes_exactly_the_budget():
    study = fresh(trials=4)
    while trial := study.take():
        finish(study, trial)
    assert [trial.state for trial in study.trials()] == ["COMPLETE"] * 4


def test_failed_trials_do_not_count():
    study = fresh(trials=2)
    study.take().fail(TrialFailed("not_finite", "x"))
    while trial := study.take():
        finish(study, trial)
    assert [p.state for p in study.trials()] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_the_known_good_point_comes_first():
    study = fresh()
    trial = study.take()
    config = trial.ask(partial(suggest, search=study.search, seed=trial.seed))
    trial.give_back()
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adamw", 3e-3, 32)


def test_a_trial_that_was_given_back_is_the_same_when_taken_again():
    study = fresh(sampler="random")
    finish(study, study.take())
    trial = study.take()
    first = trial.ask(partial(suggest, search=study.search, seed=trial.seed))
    trial.report(epoch_of(1))
    trial.run_id = "mine"
    assert trial.give_back()
    waiting = study.trials()[1]
    assert (waiting.state, waiting.started) == ("WAITING", None), "it costs until now"
    again = reopened().take()
    second = again.ask(partial(suggest, search=study.search, seed=again.seed))
    assert (again.number, again.run_id, second) == (1, "mine", first)
    again.report(epoch_of(1))  # ignored without a warning
    again.complete(result())


def test_a_finished_trial_is_not_given_back():
    study = fresh()
    trial = study.take()
    finish(study, trial)
    assert not trial.give_back()
    assert study.trials()[0].state == "COMPLETE"


def test_no_proposal_is_repeated_after_a_restart():
    drawn = []
    for _ in range(6):
        study = reopened() or fresh(trials=6, sampler="random")
        trial = study.take()
        drawn.append(trial.ask(partial(suggest, search=study.search, seed=0)).dropout)
        trial.complete(result())
    assert len(set(drawn)) == 6


def test_proposals_depend_on_seed_and_number_alone():
    def draw(storage):
        study = create_study(open_storage(storage), make(trials=5, sampler="random"), FACTS)
        configs = []
        while trial := study.take():
            configs.append(trial.ask(partial(suggest, search=study.search, seed=trial.seed)))
            trial.complete(result())
        return configs

    assert draw("sqlite:///a.db") == draw("sqlite:///b.db")


def _hold(ready):
    study = find_study(open_storage("sqlite:///o.db"), "s")
    trial = study.take()
    trial.ask(partial(suggest, search=study.search, seed=trial.seed))
    ready.set()
    time.sleep(60)


def _end(ready, go):
    study = find_study(open_storage("sqlite:///o.db"), "s")
    trial = study.take()
    ready.set()
    assert go.wait(30)
    trial.complete(result())


def _ending_holder():
    """A process that ends its trial and itself on request."""
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_end, args=(ready, go))
    process.start()
    assert ready.wait(30)
    return process, go


def _killed_holder():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(ready,))
    process.start()
    assert ready.wait(30)
    return process


def _kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_trial_of_a_live_process_is_left_alone_and_of_a_dead_one_taken_over():
    study = fresh(trials=2)
    process = _killed_holder()
    other = study.take()
    assert other.number == 1
    assert study.take_number(0) is None
    other.complete(result())
    assert study.trials()[0].state == "RUNNING"
    _kill(process)
    left = study.trials()[0]
    assert (left.state, left.started) == ("WAITING", None), "nobody trains it"
    trial = study.take()
    assert (trial.number, trial.takeovers) == (0, 1)
    trial.complete(result())
    assert study.take() is None


def test_a_trial_whose_owner_ended_it_and_itself_in_this_moment_is_not_taken_over():
    study = fresh(trials=1)
    process = _killed_holder()
    seen = look(study._study)[0].trial
    _kill(process)
    trial = study.take()
    trial.complete(result())
    stale = seen.user_attrs["lease"]
    now = look(study._study)[0].trial.user_attrs["lease"]
    assert leases.swap(study._queue._storage, seen._trial_id, now, stale)
    assert study._queue._seize(seen) is None
    assert study.trials()[0].state == "COMPLETE"


def test_a_trial_that_ended_with_its_process_while_the_list_was_read_counts():
    study = fresh(trials=1)
    get_trials = study._study.get_trials

    def slow(**how):
        trials = get_trials(**how)
        if trials[0].state.name == "RUNNING":
            process.join()
        return trials

    process, go = _ending_holder()
    study._study.get_trials = slow
    go.set()
    assert study.take() is None
    assert [trial.state for trial in study.trials()] == ["COMPLETE"]


def test_a_trial_that_ends_with_its_process_while_trials_are_counted_counts(monkeypatch):
    study = fresh(trials=1)
    process, go = _ending_holder()
    mine = study._queue._ask()
    is_free = leases.is_free

    def then_ends(lease):
        answer = is_free(lease)
        go.set()
        process.join()
        return answer

    monkeypatch.setattr(leases, "is_free", then_ends)
    assert not study._queue._fits(mine, 1)
    mine.give_back()


def test_a_trial_that_was_lost_sight_of_while_it_was_taken_is_taken_again(monkeypatch):
    study = fresh(trials=1, backbones="tiny")
    with monkeypatch.context() as broken:
        broken.setattr(queue, "Trial", _away)
        with pytest.raises(sqlite3.OperationalError):
            study.take()
    assert [trial.state for trial in study.trials()] == ["WAITING"]
    trial = study.take()
    assert (trial.number, trial.takeovers) == (0, 0), "its process never died"
    finish(study, trial)
    assert study.take() is None


@pytest.mark.parametrize("when", ["_ahead", "give_back"])
def test_a_trial_that_the_storage_lost_as_it_was_let_in_is_taken_again(monkeypatch, when):
    study = fresh(trials=1, backbones="tiny")
    with monkeypatch.context() as broken:
        if when == "give_back":
            broken.setattr(queue.Queue, "_fits", lambda *_: False)
            broken.setattr(queue.Trial, when, _away)
        else:
            broken.setattr(queue.Queue, when, _away)
        with pytest.raises(sqlite3.OperationalError):
            study.take()
    assert [trial.state for trial in study.trials()] == ["WAITING"], "it is held for ever"
    trial = study.take()
    assert (trial.number, trial.takeovers) == (0, 0), "its process never died"
    finish(study, trial)
    assert study.take() is None


def test_two_searches_do_not_make_one_study_of_two(monkeypatch):
    fresh(trials=2)
    with pytest.raises(StoreError, match="created by another search"):
        fresh(trials=9)
    assert reopened().search.trials == 2
    monkeypatch.setattr(studies, "_MAKING_SECONDS", 0.2)
    optuna.create_study(study_name="left", storage="sqlite:///o.db")  # by a killed process
    assert fresh(study="left", trials=5).search.trials == 5


def test_when_the_time_is_up_nobody_gets_a_trial_unless_there_is_more():
    study = fresh(trials=2, timeout=60)
    finish(study, study.take())
    study.change(seconds_used=60.5)
    assert reopened().take() is None
    study.resume(study.search.model_copy(update={"timeout": 120.0}))
    finish(study, reopened().take())


def test_a_verdict_is_not_forgotten_by_a_stop_before_the_end_was_told(monkeypatch):
    study = fresh(trials=1)
    trial = study.take()
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda _: True)
    with monkeypatch.context() as broken:
        broken.setattr(optuna.trial.Trial, "set_user_attr", _away)
        with pytest.raises(sqlite3.OperationalError):
            trial.report(epoch_of(3, 0.1))
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda _: False)
    with pytest.raises(TrialPruned):
        trial.report(epoch_of(3, 0.1))
    assert trial.give_back()
    resumed = study.take()
    resumed.report(epoch_of(2, 0.1))
    with pytest.raises(TrialPruned):
        resumed.report(epoch_of(3, 0.1))
    resumed.prune()


def test_an_end_that_the_storage_did_not_take_is_told_again(monkeypatch):
    study = fresh(trials=1)
    trial = study.take()
    tell = study._study.tell
    for refused in (_away, lambda *a, **k: tell(*a, **k) and _away()):
        with monkeypatch.context() as broken:
            broken.setattr(study._study, "tell", refused)
            with pytest.raises(sqlite3.OperationalError):
                trial.complete(result())
    trial.complete(result())
    assert study.trials()[0].state == "COMPLETE"


def _away(*_, **__):
    raise sqlite3.OperationalError("database is locked")


def test_release_dead_leaves_nothing_running():
    study = fresh(trials=2)
    _kill(_killed_holder())
    study.release_dead()
    trials = optuna.load_study(study_name="s", storage="sqlite:///o.db").trials
    assert [trial.state.name for trial in trials] == ["WAITING"]


def test_a_trial_that_keeps_killing_its_workers_is_lost():
    study = fresh(trials=1)
    for _ in range(3):
        _kill(_killed_holder())
    trial = study.take()
    assert trial.number == 1
    assert study.trials()[0].state == "FAIL"
    trial.give_back()


def test_a_trial_whose_worker_the_kernel_kills_for_memory_twice_does_not_fit(monkeypatch):
    study = fresh(trials=1, retries=9)
    for kills, number in ((0, 0), (1, 1)):
        monkeypatch.setattr(leases, "memory_kills", lambda kills=kills: ("here", kills))
        _kill(_killed_holder())
        monkeypatch.setattr(leases, "memory_kills", lambda kills=kills: ("here", kills + 1))
        trial = study.take()
        assert (trial.number, trial.memory_kills) == (number, 1 - number)
        trial.give_back()
    assert study.trials()[0].failure["failure.kind"] == "out_of_memory"


def test_kernel_kills_elsewhere_say_nothing_about_a_dead_worker(monkeypatch):
    lease = leases.mine() | {"memory_kills": ["here", 1]}  # as JSON returns it
    for counted, expected in ((("here", 2), True), (("here", 1), False), (("there", 2), False)):
        monkeypatch.setattr(leases, "memory_kills", lambda counted=counted: counted)
        assert leases.was_short_of_memory(lease) == expected
    assert not leases.was_short_of_memory({"host": "of an older version"})


def test_only_one_of_two_gets_a_free_trial():
    study = fresh()
    storage = study._queue._storage
    frozen = look(study._study)[0].trial
    assert leases.swap(storage, frozen._trial_id, None, {"host": "a", "beat": time.time()})
    assert not leases.swap(storage, frozen._trial_id, None, {"host": "b"})
    assert look(study._study)[0].trial.user_attrs["lease"]["host"] == "a"


def test_a_lease_of_another_host_is_free_after_the_grace_time():
    lease = leases.mine() | {"host": "elsewhere"}
    assert not leases.is_free(lease)
    assert leases.is_free(lease | {"beat": time.time() - leases.GRACE_SECONDS - 1})


def test_a_reused_process_number_is_not_the_owner():
    study = fresh()
    lease = study.take()._heartbeat._lease
    assert not leases.is_free(lease)
    assert leases.is_free(lease | {"pid_start": lease["pid_start"] - 100})


def test_the_budget_has_room_for_those_who_came_first():
    study = fresh(trials=1, backbones="tiny")
    waiting = study._queue
    first, second = waiting._ask(), waiting._take_left(look(study._study))
    assert (first.number, second.number) == (1, 0)
    budget = study.search.trials
    assert waiting._fits(first, budget)
    assert not waiting._fits(second, study.search.trials), (
        "it was taken later, though its number is lower"
    )
    assert second.give_back()
    assert study.trials()[0].state == "WAITING"
    finish(study, first)
    assert study.take() is None


def test_a_lease_that_became_visible_late_finds_the_budget_full(monkeypatch):
    """It has an earlier time than one that was let in before it became visible."""
    study = fresh(trials=1, backbones="tiny")
    waiting = study._queue
    later = waiting._ask()
    assert waiting._fits(later, 1)
    an_hour_ago = time.time() - 3600
    monkeypatch.setattr(leases.time, "time", lambda: an_hour_ago)
    earlier = waiting._ask()
    assert earlier.since < later.since
    assert not waiting._fits(earlier, 1)
    monkeypatch.undo()
    assert earlier.give_back()
    finish(study, later)


def test_who_is_let_in_last_sees_all_who_were_before(monkeypatch):
    """One whose lease is seen late gets the place while another is about to take it."""
    study = fresh(trials=2, backbones="tiny")
    waiting = study._queue
    second, first = waiting._ask(), waiting._ask()
    assert waiting._fits(first, 2)
    let_in = Trial.let_in

    def after_another(trial):
        with monkeypatch.context() as patched:
            patched.setattr(Trial, "let_in", let_in)
            patched.setattr(leases.time, "time", lambda: first.since - 3600)
            others.append(waiting._ask())
        monkeypatch.setattr(Trial, "let_in", let_in)
        assert waiting._fits(others[0], 2)
        let_in(trial)

    others = []
    monkeypatch.setattr(Trial, "let_in", after_another)
    assert not waiting._fits(second, 2)
    for trial in (first, second, *others):
        trial.give_back()


def test_who_has_lost_the_lease_neither_tells_nor_gives_back():
    study = fresh()
    trial = study.take()
    study._queue._storage.set_trial_user_attr(trial._id, "lease", leases.mine() | {"host": "thief"})
    assert not trial.give_back()
    with pytest.raises(leases.LeaseLost):
        trial.complete(result())
    assert study.trials()[0].state == "RUNNING"


def test_changing_one_fact_keeps_what_others_changed():
    study, other = fresh(trials=3), reopened()
    other.resume(other.search.model_copy(update={"trials": 9}))
    study.change(seconds_used=5.0)
    assert reopened().search.trials == 9


def test_the_heartbeat_carries_progress_and_notices_a_lost_lease(monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    study = fresh()
    trial = study.take()
    trial.progress(1, 2, 3)
    deadline = time.time() + 10
    while not study.trials()[0].progress and time.time() < deadline:
        time.sleep(0.05)
    assert list(study.trials()[0].progress) == [1, 2, 3]
    study._queue._storage.set_trial_user_attr(trial._id, "lease", {"host": "thief"})
    while not trial._heartbeat.is_lost and time.time() < deadline:
        time.sleep(0.05)
    with pytest.raises(leases.LeaseLost):
        trial.report(epoch_of(1))


def test_a_trial_below_the_median_is_pruned_with_its_last_value():
    study = fresh(trials=8, pruner="median")
    for _ in range(6):
        trial = study.take()
        trial.ask(partial(suggest, search=study.search, seed=0))
        for number in (1, 2, 3):
            trial.report(epoch_of(number, 0.9))
        trial.complete(result())
    trial = study.take()
    trial.report(epoch_of(1, 0.1))
    with pytest.raises(TrialPruned):
        trial.report(epoch_of(2, 0.1))
    trial.prune()
    point = study.trials()[-1]
    assert (point.state, point.value) == ("PRUNED", 0.1)


def test_a_trial_that_was_trained_to_the_end_is_not_pruned():
    study = fresh(trials=8, pruner="asha", epochs=2)
    for score in (0.9, 0.1):
        trial = study.take()
        for number in (1, 2):
            trial.report(epoch_of(number, score), is_last=number == 2)
        trial.complete(result())
    trial = study.take()
    trial.report(epoch_of(1, 0.1))
    with pytest.raises(TrialPruned):
        trial.report(epoch_of(2, 0.1))


def test_five_failures_in_a_row_stop_the_study():
    study = fresh(trials=9)
    for _ in range(5):
        study.take().fail(TrialFailed("out_of_memory", "too big"))
    with pytest.raises(StudyStopped, match="too big"):
        study.take()
    again = reopened()
    with pytest.raises(StudyStopped, match="too big"):
        again.take()  # a restarted worker knows
    again.forgive()
    assert again.take()  # a resumed search tries again
    assert reopened().take()


def test_a_study_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(StoreError, match="it has no studies"):
        existing_study("sqlite:///o.db", "s")
    fresh()
    with pytest.raises(StoreError, match=r"(?s)no study 't' in sqlite:///o.db.*known there: s"):
        existing_study("sqlite:///o.db", "t")
    assert existing_study("sqlite:///o.db", "s").name == "s"


def test_points_say_when_a_trial_was_taken_and_told():
    study, began = fresh(trials=2), time.time()
    finish(study, study.take())
    study.take()
    done, running = study.trials()
    assert began - 1 < done.started <= done.ended <= running.started < time.time() + 1
    assert running.ended is None


def test_points_of_a_study_are_known_without_its_hypermodel():
    study = create_study(
        open_storage("sqlite:///o.db"), make(hypermodel="keras_tuner.applications:HyperXception"),
        FACTS,
    )  # fmt: skip
    study.change(search=study.facts["search"] | {"hypermodel": "gone:Model"})
    assert study.trials() == []


def test_a_study_of_another_program_is_refused():
    optuna.create_study(study_name="s", storage="sqlite:///o.db").ask()
    with pytest.raises(StoreError, match="fer_search did not create it"):
        reopened()


@pytest.mark.parametrize(
    "url", ["sqlite:////dev/null/o.db", "postgresql+nodriver://h/d", "mysql://h/d"]
)
def test_a_storage_that_cannot_be_opened_is_refused(url):
    with pytest.raises(StoreError, match="cannot be opened"):
        open_storage(url)


def test_another_space_is_refused(monkeypatch):
    study = fresh()
    study.check_space()
    study.change(space="0" * 32)
    with pytest.raises(StoreError, match="another search space"):
        study.check_space()


def test_a_reopened_study_has_its_settings_and_types():
    fresh(trials=7, sampler="random")
    study = reopened()
    assert study.search == make(trials=7, sampler="random")
    assert isinstance(study.search.trials, int)


def test_values_asked_before_an_error_are_kept_and_all_at_once():
    study = fresh()
    trial = study.take()

    def read(hp):
        hp.Float("rate", 0.0, 1.0)
        assert study.trials()[0].params.get("rate") is None
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trial.ask(read)
    assert 0 <= study.trials()[0].params["rate"] <= 1
    assert trial.ask(lambda hp: hp.Float("rate", 0.0, 1.0)) == study.trials()[0].params["rate"]


def test_importances_see_what_trials_were_pruned_for():
    """Only the learning rate matters here, and trials with a bad one are pruned at once."""
    study = fresh(trials=24, sampler="random")
    assert study.importances() == {}
    rates = []
    while trial := study.take():
        config = trial.ask(partial(suggest, search=study.search, seed=trial.seed))
        rates.append(config.learning_rate)
        score = 1 / (1 + abs(np.log(config.learning_rate / 1e-3)))
        trial.report(epoch_of(1, score))
        if score < 0.5:
            trial.prune()
        else:
            trial.complete(result_with(score))
    assert len(set(rates)) > 12
    assert {trial.state for trial in study.trials()} == {"COMPLETE", "PRUNED"}
    importances = study.importances()
    assert sum(importances.values()) == pytest.approx(1)
    assert "learning_rate" in next(iter(importances)), importances


def result_with(score):
    """A result whose objective is `score`."""
    return dataclasses.replace(result(), epochs=(epoch_of(1, score),), validation=Scored(score))


@dataclasses.dataclass(frozen=True)
class Scored:
    macro_f1: float
    accuracy: float = 0.5
