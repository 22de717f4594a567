"""One trial from suggestion to registry, in this process, on real stores."""

import contextlib
import dataclasses
import json
import random
import threading

import keras
import numpy as np
import optuna
import pytest

from fer_search import spool
from fer_search.errors import DataError, StudyStopped, TrialFailed
from fer_search.results import Evaluation
from fer_search.serving.package import load_keras
from fer_search.study import leases
from fer_search.study.trial import TrialPruned
from fer_search.workflows import delivery_thread, plan, worker
from fer_search.workflows.deliver import deliver, deliver_left
from fer_search.workflows.delivery_thread import DeliveryThread
from fer_search.workflows.finish import finish
from fer_search.workflows.running import repair


def trial_runs(study_run):
    return study_run._children("attributes.status != 'X'")


def states(study):
    return [trial.state for trial in study.trials()]


def test_a_trial_ends_up_everywhere_and_the_study_is_finished_once(
    study, study_run, splits, capsys
):
    finished = worker.run_trial(study.take(), splits, study, study_run)
    assert states(study)[0] == "COMPLETE", "the sampler had to wait for the delivery"
    before = random.getstate(), repr(np.random.get_state(legacy=False))
    deliver(finished, study, study_run)
    after = random.getstate(), repr(np.random.get_state(legacy=False))
    assert before == after, "the next trial, which trains meanwhile, would begin with other weights"
    (run,) = trial_runs(study_run)
    client = study_run.client
    assert (run.info.status, run.info.run_name) == ("FINISHED", "trial-000")
    metrics = run.data.metrics
    assert {"epoch/val_macro_f1", "val_accuracy", "val_f1_disgust", "train_seconds"} <= set(metrics)
    assert {"val_macro_f1_views2", "val_f1_disgust_views2"} <= set(metrics)
    assert not [name for name in metrics if name.startswith("test_") or "views10" in name]
    assert run.data.params["backbone"] == "tiny"
    assert run.data.tags["fer.origin"] == "known-good"
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("faces-training", splits.train_digest)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "confusion_matrix.png", "learning_curves.png", "augmentation.png",
        "classification_report.json",
    }  # fmt: skip
    (version,) = client.search_model_versions("name='fer-emotion'")
    assert version.tags["train_digest"] == splits.train_digest
    assert float(version.tags["val_macro_f1"]) == pytest.approx(metrics["val_macro_f1"], abs=1e-6)
    assert not list(spool.waiting(spool.folder_of(study_run.run_id)))
    assert study.trials()[0].value == metrics["val_macro_f1"]

    finish(study, study_run, splits, timed_out=False)
    score = client.get_run(study_run.run_id).data
    model, _ = load_keras(client, run.data.tags["fer.model_id"])
    predicted = model.predict(splits.test.images[..., None], verbose=0).argmax(1)
    assert score.metrics["test_accuracy"] == pytest.approx((predicted == splits.test.labels).mean())
    assert 0 < score.metrics["test_macro_f1_views2"] < 1
    file = client.download_artifacts(study_run.run_id, "test_predictions.npz")
    with np.load(file, allow_pickle=False) as kept:
        assert set(kept) == {
            "origins", "labels", "probabilities_views1", "probabilities_views2",
        }  # fmt: skip
        assert (kept["probabilities_views1"].argmax(1) == predicted).all()
        assert kept["origins"].tolist() == splits.test.origins.tolist()
    assert score.tags["test_openings"] == "1"
    assert client.get_model_version_by_alias("fer-emotion", "challenger").version == version.version
    finish(study, study_run, splits, timed_out=False)
    assert len(study_run.openings()) == 1, "the same trial was tested twice"
    assert "opened 1 time in this study" in capsys.readouterr().out


@pytest.mark.slow
def test_a_delivery_thread_delivers_and_says_what_came_of_it(study, study_run, splits, monkeypatch):
    trial_1, trial_2 = study.take(), study.take()
    folder = spool.folder_of(study_run.run_id)
    with DeliveryThread(study, study_run, folder) as mine:
        mine.send(worker.run_trial(trial_1, splits, study, study_run))
    assert not list(spool.waiting(folder))
    finished = worker.run_trial(trial_2, splits, study, study_run)
    with monkeypatch.context() as patch:
        patch.setattr(study_run, "existing", lambda _: 1 / 0)
        with (
            pytest.raises(ZeroDivisionError),
            DeliveryThread(study, study_run, folder) as mine,
        ):
            mine.send(finished)
    (left,) = spool.waiting(folder)
    deliver_left(study, study_run)
    with DeliveryThread(study, study_run, folder) as mine:
        mine.send(left)  # a search that cleaned up was faster
    assert [run.info.status for run in trial_runs(study_run)] == ["FINISHED", "FINISHED"]


@pytest.mark.slow
def test_a_delivery_that_met_an_outage_is_tried_again_when_the_store_is_back(
    study, study_run, splits, monkeypatch
):
    folder, answered = spool.folder_of(study_run.run_id), []

    def away_once(call, **_):
        answered.append(call)
        if len(answered) == 1:
            raise ConnectionError
        return call()

    finished = worker.run_trial(study.take(), splits, study, study_run)
    monkeypatch.setattr(delivery_thread, "patiently", away_once)
    with DeliveryThread(study, study_run, folder) as mine:
        mine.send(finished)
        mine._thread.join()
        assert len(list(spool.waiting(folder))) == 1
        mine.heed()
        assert not list(spool.waiting(folder))


@pytest.mark.slow
def test_a_delivery_thread_in_a_hurry_leaves_the_delivery_to_the_next_start(
    study, study_run, splits, monkeypatch
):
    folder, answers = spool.folder_of(study_run.run_id), threading.Event()

    def away(_):
        answers.set()
        raise ConnectionError

    finished = worker.run_trial(study.take(), splits, study, study_run)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(study_run, "existing", away)
        with DeliveryThread(study, study_run, folder) as mine:
            mine.send(finished)
            assert answers.wait(10)
            raise KeyboardInterrupt
    assert len(list(spool.waiting(folder))) == 1
    deliver_left(study, study_run)
    assert not list(spool.waiting(folder))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["log_metrics", "log_figures", "end_as"])
def test_a_delivery_cut_short_is_finished_by_the_next_start(
    study, study_run, splits, monkeypatch, moment
):
    def cut(self, *arguments, **more):
        raise KeyboardInterrupt

    trial = study.take()
    with monkeypatch.context() as patch:
        patch.setattr(f"fer_search.tracking.runs.TrialRun.{moment}", cut)
        patch.setattr(worker, "system_metrics", lambda *_: contextlib.nullcontext())
        if moment == "log_metrics":  # it logs epochs, too
            patch.setattr("fer_search.tracking.runs.TrialRun.log_epochs", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            deliver(worker.run_trial(trial, splits, study, study_run), study, study_run)
    deliver_left(study, study_run)
    repair(study, study_run)
    (run,) = trial_runs(study_run)
    assert run.info.status == "FINISHED"
    assert states(study)[0] == "COMPLETE"
    assert len(study_run.client.search_model_versions("name='fer-emotion'")) == 1
    assert not list(spool.waiting(spool.folder_of(study_run.run_id)))


@pytest.mark.slow
def test_what_a_process_spooled_before_it_was_killed_is_told_and_delivered(
    study, study_run, splits, monkeypatch
):
    def killed(trial):
        """Leave the trial RUNNING, with the lease of a dead process."""
        lease = trial._stop_beating()
        gone = lease | {"pid_start": lease["pid_start"] - 100}
        assert leases.swap(trial._storage, trial._id, lease, gone)
        raise SystemExit

    trial = study.take()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "system_metrics", lambda *_: contextlib.nullcontext())
        patch.setattr(worker, "announce", lambda *_: killed(trial))
        patch.setattr(type(trial), "give_back", lambda _: False)
        with pytest.raises(SystemExit):
            worker.run_trial(trial, splits, study, study_run)
    deliver_left(study, study_run)
    assert states(study)[0] == "COMPLETE"
    (run,) = trial_runs(study_run)
    assert run.info.status == "FINISHED"
    assert not list(spool.waiting(spool.folder_of(study_run.run_id)))


@pytest.mark.slow
@pytest.mark.parametrize("now", ["runs again", "ended otherwise"])
def test_what_was_spooled_for_a_trial_that_went_on_elsewhere_is_not_delivered(
    study, study_run, splits, monkeypatch, now
):
    trial = study.take()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "system_metrics", lambda *_: contextlib.nullcontext())
        patch.setattr(worker, "announce", away)
        with pytest.raises(ZeroDivisionError):
            worker.run_trial(trial, splits, study, study_run)
    again = study.take()
    assert again.number == trial.number
    (spooled,) = spool.waiting(spool.folder_of(study_run.run_id))
    if now == "ended otherwise":
        other = perfect(spooled.result.validation.labels)
        again.complete(dataclasses.replace(spooled.result, validation=other))
    deliver_left(study, study_run)
    (run,) = trial_runs(study_run)
    assert "val_macro_f1" not in run.data.metrics
    assert not study_run.client.search_registered_models()
    left = list(spool.waiting(spool.folder_of(study_run.run_id)))
    assert len(left) == (now == "runs again")


def perfect(labels):
    return Evaluation(labels, np.eye(7)[labels])


def away(*_):
    raise ZeroDivisionError


def test_a_stop_while_the_run_is_opened_gives_the_trial_back(study, study_run, splits, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(study_run), "trial_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        worker.run_trial(study.take(), splits, study, study_run)
    assert states(study) == ["WAITING"]
    assert study.take().takeovers == 0


@pytest.mark.parametrize(
    ("ends_with", "state", "status"),
    [
        pytest.param(TrialPruned("x"), "PRUNED", "KILLED", id="pruned"),
        pytest.param(TrialFailed("not_finite", "loss is nan"), "FAIL", "FAILED", id="failed"),
        pytest.param(KeyboardInterrupt(), "WAITING", "SCHEDULED", id="stopped"),
        pytest.param(ZeroDivisionError("a bug"), "WAITING", "SCHEDULED", id="bug"),
    ],
)
def test_however_training_ends_both_stores_say_so(
    study, study_run, splits, monkeypatch, ends_with, state, status
):
    def train(*_, **__):
        raise ends_with

    monkeypatch.setattr(plan, "train", train)
    trial = study.take()
    is_mapped = state in ("PRUNED", "FAIL")
    with contextlib.nullcontext() if is_mapped else pytest.raises(type(ends_with)):
        worker.run_trial(trial, splits, study, study_run)
    (run,) = trial_runs(study_run)
    assert (states(study)[0], run.info.status) == (state, status)
    assert run.data.tags["optuna.trial_state"] == state
    if state == "FAIL":
        assert run.data.tags["failure.kind"] == "not_finite"


@pytest.mark.slow
def test_only_an_epoch_on_which_others_follow_can_be_the_verdict(
    study, study_run, splits, monkeypatch
):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda _: True)
    worker.run_trial(study.take(), splits, study, study_run)  # it has only one epoch
    study.change(search=study.search.model_copy(update={"epochs": 2}).to_params())
    worker.run_trial(study.take(), splits, study, study_run)
    assert states(study) == ["COMPLETE", "PRUNED"]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_goes_through_memory_in_two_parts(
    study, study_run, splits, monkeypatch
):
    fit, sizes = keras.Model.fit, []

    def limited(self, dataset, **options):
        sizes.append(len(next(iter(dataset))[0]))
        if len(sizes) == 1:
            raise MemoryError
        return fit(self, dataset, **options)

    monkeypatch.setattr(keras.Model, "fit", limited)
    worker.run_trial(study.take(), splits, study, study_run)
    (run,) = trial_runs(study_run)
    assert states(study)[0] == "COMPLETE"
    assert sizes == [sizes[0], sizes[0] // 2]
    assert run.data.tags["fer.halved_batch"] == "true"


@pytest.mark.slow
def test_a_batch_that_does_not_fit_in_parts_either_is_a_failed_trial(
    study, study_run, splits, monkeypatch
):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(keras.Model, "fit", full)
    worker.run_trial(study.take(), splits, study, study_run)
    (run,) = trial_runs(study_run)
    assert (states(study)[0], run.data.tags["failure.kind"]) == ("FAIL", "out_of_memory")
    assert "in 2 parts" in run.data.tags["failure.message"]


def test_a_study_without_a_complete_trial_says_so(study, study_run, splits):
    with pytest.raises(StudyStopped, match="no trial was completed"):
        finish(study, study_run, splits, timed_out=False)


def test_other_data_are_refused(study, splits):
    worker.check_data(study, splits)
    study.change(test_digest="0" * 32)
    with pytest.raises(DataError, match=r"created with other data: test_digest"):
        worker.check_data(study, splits)


def test_data_json_can_be_written(splits):
    assert json.loads(json.dumps(splits.report))["test_digest"] == splits.test_digest
