import concurrent.futures
import dataclasses
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from fer_search.errors import StoreError
from fer_search.results import EpochMetrics
from fer_search.tracking import aliases, commands, monitor, registry, store
from fer_search.tracking.runs import STATUS, StudyRun
from fer_search.trials import TrialSummary


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """One store for all tests here: creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(address, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return store.connect()


@pytest.fixture
def study_run(client):
    return StudyRun(client, store.begin_run(client, "s", {"trials": "3"}))


def epoch(number):
    return EpochMetrics(
        epoch=number, loss=1.0, accuracy=0.1, val_loss=1.0, val_accuracy=0.2, val_macro_f1=0.3,
        learning_rate=1e-3, images_per_second=9.0,
    )  # fmt: skip


def trial(number, state):
    failure = {"failure.kind": "killed"} if state == "FAIL" else {}
    return TrialSummary(
        number=number, state=state, value=None, params={}, curve={}, failure=failure
    )


def status(client, run):
    return client.get_run(run.run_id).info.status


def test_the_run_of_mlflow_is_adopted_once(client, monkeypatch):
    given = client.create_run("0")
    client.log_param(given.info.run_id, "trials", "'3'")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    assert store.has_run_to_adopt()
    run = store.begin_run(client, "s", {"trials": "3", "epochs": "2"})
    assert run.info.run_id == given.info.run_id
    assert not store.has_run_to_adopt()
    logged = client.get_run(run.info.run_id)
    assert logged.data.params == {"trials": "'3'", "epochs": "2"}
    assert logged.info.run_name == "s"


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_an_experiment_that_was_deleted_is_refused(client, monkeypatch, variable):
    number = client.create_experiment(variable)
    client.delete_experiment(number)
    monkeypatch.setenv(variable, variable if variable.endswith("NAME") else number)
    with pytest.raises(StoreError, match=f"experiment '{variable}' in sqlite.+ was deleted"):
        store.begin_run(client, "s", {})


def test_an_experiment_is_made_by_name_and_never_by_number(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "made")
    made = store.begin_run(client, "s", {}).info.experiment_id
    assert client.get_experiment(made).name == "made"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987")
    with pytest.raises(StoreError, match="experiment 987 is not in sqlite"):
        store.begin_run(client, "s", {})


def test_system_metrics_are_sampled_while_the_context_lasts(study_run, monkeypatch):
    monkeypatch.setattr(monitor, "INTERVAL_SECONDS", 0.05)
    run = study_run.trial_run("s", 0, None, is_new=True)
    name = "system/system_memory_usage_percentage"
    with monitor.system_metrics(run, []):
        wait_for(lambda: len(study_run.client.get_metric_history(run.run_id, name)) >= 2)
    sampled = study_run.client.get_metric_history(run.run_id, name)
    assert [metric.step for metric in sampled] == list(range(len(sampled)))
    time.sleep(0.2)
    assert len(study_run.client.get_metric_history(run.run_id, name)) == len(sampled)


def test_system_metrics_that_the_store_did_not_take_arrive_later(study_run, monkeypatch):
    monkeypatch.setattr(monitor, "INTERVAL_SECONDS", 0.05)
    run = study_run.trial_run("s", 0, None, is_new=True)
    name, log_batch, refused = "system/system_memory_usage_percentage", MlflowClient.log_batch, []

    def refuse_twice(*args, **arguments):
        if len(refused) < 2:
            refused.append(len(arguments["metrics"]))
            raise MlflowException("away")
        return log_batch(*args, **arguments)

    monkeypatch.setattr(MlflowClient, "log_batch", refuse_twice)
    with monitor.system_metrics(run, []):
        wait_for(lambda: study_run.client.get_metric_history(run.run_id, name))
    sampled = study_run.client.get_metric_history(run.run_id, name)
    assert [metric.step for metric in sampled] == list(range(len(sampled)))
    assert len(sampled) >= 3
    assert refused[1] == 2 * refused[0]


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_of_another_store_is_refused(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(StoreError, match="is not in"):
        store.begin_run(client, "s", {})


def test_a_new_experiment_is_made_by_name(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    run = store.begin_run(client, "s", {})
    again = store.begin_run(client, "s", {})
    assert client.get_experiment(run.info.experiment_id).name == "faces"
    assert again.info.experiment_id == run.info.experiment_id


@pytest.mark.parametrize("uri", ["sqlite:////dev/null/m.db", "no-scheme://x"])
def test_a_store_that_cannot_be_opened_is_refused(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError, match="cannot be opened"):
        store.connect()


@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED", "FAIL", "WAITING"])
def test_the_status_of_a_run_tells_the_state_of_its_trial(client, study_run, state):
    run = study_run.trial_run("s", 1, None)
    assert status(client, run) == "RUNNING"
    run.end_as(state, {"failure.kind": "x"})
    assert status(client, run) == STATUS[state]
    tags = run.tags
    assert (tags["optuna.trial_state"], tags["failure.kind"]) == (state, "x")
    assert (tags["optuna.study"], tags["optuna.trial_number"]) == ("s", "1")
    assert tags["mlflow.parentRunId"] == study_run.run_id


def test_a_trial_comes_back_to_its_run_with_or_without_its_id(client, study_run):
    run = study_run.trial_run("s", 4, None)
    run.end_as("WAITING")
    for run_id in (None, run.run_id):
        again = study_run.trial_run("s", 4, run_id)
        assert again.run_id == run.run_id
        assert status(client, again) == "RUNNING"
    assert client.get_run(run.run_id).info.run_name == "trial-004"


def test_epochs_are_logged_once_however_often_they_are_trained(client, study_run):
    run = study_run.trial_run("s", 5, None)
    run.log_epochs([epoch(1)])
    run.log_epochs([epoch(2)])
    again = study_run.trial_run("s", 5, run.run_id)
    again.log_epochs([epoch(number) for number in range(1, 131)])  # MLflow accepts 1,000 at a time
    history = client.get_metric_history(run.run_id, "epoch/val_macro_f1")
    assert [metric.step for metric in history] == list(range(1, 131))
    assert run.began < history[0].timestamp / 1000 <= time.time()


def test_epochs_are_read_back_as_they_were_logged(client, study_run):
    run = study_run.trial_run("s", 8, None)
    told = [epoch(1), dataclasses.replace(epoch(2), accuracy=math.nan)]
    for each in reversed(told):
        run.log_metrics(each.metrics(), step=each.epoch, at=time.time())
    first, second = run.epochs()
    assert first == told[0]
    assert math.isnan(second.accuracy)
    assert second.val_loss == told[1].val_loss
    assert study_run.trial_run("s", 9, None).epochs() == []


def test_metrics_of_completed_trials_are_read_back_by_number(client, study_run):
    for number, state in ((1, "COMPLETE"), (2, "PRUNED"), (3, "RUNNING")):
        run = study_run.trial_run("s", number, None)
        run.log_metrics({"val_macro_f1": number / 10}, step=0, at=time.time())
        if state != "RUNNING":
            run.end_as(state)
    assert study_run.completed() == {1: {"val_macro_f1": 0.1}}


def test_arrays_and_texts_are_kept_with_the_run(client, study_run):
    assert study_run.read_arrays("a.npz") == {}
    study_run.log_arrays({"x": np.arange(3), "words": np.array(["a", "bc"])}, "a.npz")
    read = study_run.read_arrays("a.npz")
    assert (read["x"].tolist(), read["words"].tolist()) == ([0, 1, 2], ["a", "bc"])
    study_run.log_text("<p>é</p>", "report.html")
    assert client.list_artifacts(study_run.run_id)[1].path == "report.html"


def test_the_run_of_a_study_that_is_elsewhere_is_refused(client, study_run):
    assert StudyRun.of(client, "s", study_run.run_id).run_id == study_run.run_id
    with pytest.raises(StoreError, match=r"study s belongs to run 0+, which is not in"):
        StudyRun.of(client, "s", "0" * 32)


def test_final_metrics_logged_twice_stand_once(client, study_run):
    run = study_run.trial_run("s", 6, None)
    at = time.time()
    for _ in range(2):
        run.log_metrics({"val_macro_f1": 0.5}, step=0, at=at)
    assert len(client.get_metric_history(run.run_id, "val_macro_f1")) == 1


def test_repair_gives_dead_runs_the_status_of_their_trials(client, study_run):
    states = {1: "RUNNING", 2: "COMPLETE", 3: "PRUNED", 4: "WAITING", 5: "FAIL"}
    runs = {n: study_run.trial_run("s", n, None) for n in (*states, 6)}
    study_run.repair(lambda: [trial(number, state) for number, state in states.items()])
    expected = [*(STATUS[state] for state in states.values()), "RUNNING"]
    assert runs[5].tags["failure.kind"] == "killed"
    assert [status(client, run) for run in runs.values()] == expected


def test_figures_json_and_datasets_are_logged_without_an_active_run(client, study_run):
    study_run.log_figures({"a.png": Figure()})
    study_run.log_json({"a": 1}, "a.json")
    digests = {"training": "0" * 32, "test": "1" * 32}
    study_run.log_datasets(name="fer2013", url="https://example.org", digests=digests)
    names = {file.path for file in client.list_artifacts(study_run.run_id)}
    assert names == {"a.png", "a.json"}
    inputs = client.get_run(study_run.run_id).inputs.dataset_inputs
    assert {i.dataset.name: i.dataset.digest for i in inputs} == {
        "fer2013-training": "0" * 32, "fer2013-test": "1" * 32,
    }  # fmt: skip


def version_of(client, study_run, name, number):
    run = study_run.trial_run("s", number, None)
    model = client.create_logged_model("0", f"m{number}", run.run_id)
    client.finalize_logged_model(model.model_id, "READY")
    return run, registry.register(
        client, name, model_id=model.model_id, run_id=run.run_id, tags={"study": "s"}
    )


def test_a_model_is_registered_once(client, study_run):
    run, version = version_of(client, study_run, "once", 1)
    known = client.get_model_version("once", version)
    again = registry.register(client, "once", model_id=known.model_id, run_id=run.run_id, tags={})
    assert again == version
    assert known.tags == {"study": "s"}
    assert known.run_id == run.run_id


def aliases_of(client, name):
    return {key: str(value) for key, value in client.get_registered_model(name).aliases.items()}


def test_a_champion_is_remembered_by_its_successor_and_can_be_champion_again(client, study_run):
    first, second, third = (version_of(client, study_run, "moved", n)[1] for n in (1, 2, 3))
    aliases.set_champion(client, "moved", first)
    assert aliases_of(client, "moved") == {"champion": first}
    with pytest.raises(StoreError, match="first champion"):
        aliases.champions(client, "moved")
    aliases.set_champion(client, "moved", second)
    aliases.set_champion(client, "moved", second)
    assert aliases_of(client, "moved") == {"champion": second, "previous": first}
    aliases.set_champion(client, "moved", third)
    champion, before = aliases.champions(client, "moved")
    assert (str(champion.version), str(before.version)) == (third, second)
    aliases.restore(client, "moved", second)
    assert aliases_of(client, "moved") == {"champion": second, "previous": first}
    aliases.restore(client, "moved", first)
    assert aliases_of(client, "moved") == {"champion": first}


@pytest.mark.parametrize("writes", range(4))
def test_the_next_call_repairs_what_a_kill_between_two_writes_left(
    client, study_run, monkeypatch, writes
):
    name = f"killed{writes}"
    first, second, third = (version_of(client, study_run, name, n)[1] for n in (1, 2, 3))
    aliases.set_champion(client, name, first)
    aliases.set_champion(client, name, second)
    left = iter(range(writes))

    def killed(real):
        def call(*arguments):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        for write in ("set_model_version_tag", "set_registered_model_alias"):
            patch.setattr(client, write, killed(getattr(client, write)))
        try:
            aliases.set_champion(client, name, third)
        except KeyboardInterrupt:
            assert writes < 3
    aliases.repair(client, name)
    before, after = {"champion": second, "previous": first}, {"champion": third, "previous": second}
    assert aliases_of(client, name) == (after if writes >= 2 else before)
    aliases.set_champion(client, name, third)
    assert aliases_of(client, name) == after


def test_two_promotions_at_once_leave_one_champion_and_the_one_before(client, study_run):
    versions = [version_of(client, study_run, "both", n)[1] for n in range(4)]
    aliases.set_champion(client, "both", versions[0])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda version: aliases.set_champion(client, "both", version), versions[1:]))
    aliases.repair(client, "both")
    now = aliases_of(client, "both")
    champion = client.get_model_version("both", now["champion"])
    assert now["previous"] == champion.tags["promotion.replaced"] != now["champion"]


def test_a_champion_that_was_not_beaten_is_not_replaced(client, study_run):
    """Two promotions overlap: the second was compared with the champion before the first one."""
    first, second, third = (version_of(client, study_run, "late", n)[1] for n in (1, 2, 3))
    aliases.set_champion(client, "late", first, "")
    aliases.set_champion(client, "late", second, first)
    for beaten in (first, ""):
        with pytest.raises(StoreError, match=f"is now version {second}, not"):
            aliases.set_champion(client, "late", third, beaten)
    assert aliases_of(client, "late") == {"champion": second, "previous": first}


def test_a_champion_made_by_hand_keeps_the_previous_one_made_by_hand(client, study_run):
    first, second = (version_of(client, study_run, "hand", n)[1] for n in (1, 2))
    client.set_registered_model_alias("hand", "champion", second)
    client.set_registered_model_alias("hand", "previous", first)
    aliases.repair(client, "hand")
    assert aliases_of(client, "hand") == {"champion": second, "previous": first}


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("nobody", "challenger", "no registered model 'nobody' with versions; other models: .*few"),
        ("nobody", "1", "no registered model 'nobody' with versions; other models: .*few"),
        ("few", "9", "'few' has no version 9; versions: 1"),
        ("few", "best", "'few' has no alias 'best'; versions: 1"),
    ],
)
def test_what_is_not_in_the_registry_is_refused_with_what_there_is(
    client, study_run, name, version, said
):
    version_of(client, study_run, "few", 1)
    with pytest.raises(StoreError, match=said):
        registry.find(client, name, version)


def test_every_opening_of_test_is_written_down_before_it_happens(client, study_run):
    assert study_run.open_test(3, "chosen by validation") == 1
    assert study_run.open_test("4", "promotion") == 2
    openings = study_run.openings()
    assert [(each["trial"], each["why"]) for each in openings] == [
        (3, "chosen by validation"), (4, "promotion"),
    ]  # fmt: skip
    assert study_run.tags["test_openings"] == "2"
    assert study_run.read_json("nothing.json") is None


def test_the_client_is_mlflows_own(client):
    assert isinstance(client, MlflowClient)
    assert store.holds(client, store.begin_run(client, "s", {}).info.run_id)
    assert not store.holds(client, "0" * 32)


def test_the_run_of_a_command_says_which_it_was(client, monkeypatch):
    commands.record(client, "export", "nobody opened a run", {})
    given = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    commands.record(client, "export", "export m.onnx", {"model": "m"})
    run = client.get_run(given.info.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "export m.onnx")
    assert (run.data.tags["fer.command"], run.data.tags["model"]) == ("export", "m")


def test_a_refused_command_leaves_its_reason_on_the_run_that_mlflow_opened(client, address):
    given = client.create_run("0")
    environment = os.environ | {"MLFLOW_RUN_ID": given.info.run_id, "MLFLOW_TRACKING_URI": address}
    done = subprocess.run(
        [sys.executable, "-m", "fer_search", "search", "--sampler=dice"], env=environment,
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 2
    run = client.get_run(given.info.run_id)
    assert (run.info.status, run.data.tags["fer.command"]) == ("FAILED", "search")
    assert "sampler=dice" in run.data.tags["refused"]
