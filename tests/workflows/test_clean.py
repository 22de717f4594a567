"""Cleaning on real stores: what goes, what cannot go, and what the store says about it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import gc
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from small_store import (
    CLEANED,
    LARGE,
    NAME,
    SMALL,
    TRIALS,
    VERSIONS,
    aliases_of,
    begin_study,
    content,
    end_state,
    files,
    kept_bytes,
    loads,
    run_clean,
    stored,
    versions,
)  # fmt: skip

from fer_search.errors import StoreError
from fer_search.tracking import aliases, models, registry, store


def test_a_dry_run_changes_nothing_and_tells_all(client, capsys):
    before, was = content(), files()
    run_clean()
    assert content() == before
    assert files() == was
    said = capsys.readouterr().out
    assert "Study s: 6 stored, 1.6 MB" in said
    assert "Not made by a search: 1 stored, 0.3 MB" in said
    assert "1 model (0.3 MB) of 7 models (1.9 MB) can be deleted." in said
    assert "python -m fer_search clean --keep=1 --apply=true" in said
    assert "2 models (0.6 MB) more, registered without an alias" in said


def test_unregistered_models_go_and_their_space_comes_back(client, capsys):
    before = kept_bytes()
    three = stored(client)[3]
    run_clean(apply=True)
    assert set(stored(client)) == {-1, 0, 1, 2, 4, 5}
    assert before - kept_bytes() == three.size >= LARGE
    assert versions(client) == ["1", "2", "3", "4", "5"]
    tags = client.get_run(three.run_id).data.tags
    assert "not among the best 1" in tags[models.REMOVED_TAG]
    assert tags[models.MODEL_TAG] == three.model_id
    assert not models.has_files(client, three.model_id)
    assert "1 model (0.3 MB) deleted" in capsys.readouterr().out
    run, *_ = client.search_runs([client.get_run(three.run_id).info.experiment_id])
    assert (run.info.status, run.data.tags["fer.command"]) == ("FINISHED", "clean")
    assert run.data.metrics["models_deleted"] == 1
    (planned,) = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/plan.json")
    assert (planned["trial"], planned["bytes"]) == (3, three.size)


def test_versions_go_before_files_and_unregistered_models_before_all(client, monkeypatch):
    trial_of = {model.model_id: trial for trial, model in stored(client).items()}
    done = []

    def spy(cls, method, of):
        real = getattr(cls, method)

        def call(self, *arguments):
            done.append((method, of(self, *arguments)))
            return real(self, *arguments)

        monkeypatch.setattr(cls, method, call)

    trial_of_version = {number: trial for trial, number in VERSIONS.items()}
    spy(MlflowClient, "delete_model_version", lambda _, name, number: trial_of_version[number])
    spy(MlflowClient, "delete_logged_model", lambda _, model_id: trial_of[model_id])
    spy(
        LocalArtifactRepository, "delete_artifacts",
        lambda self: trial_of[Path(self.artifact_uri).parent.name],
    )  # fmt: skip
    run_clean(apply=True, versions=True)
    steps = ("delete_model_version", "delete_artifacts", "delete_logged_model")
    registered = sorted({trial for _, trial in done if trial != 3})
    assert registered == [1, 5]
    assert done[:2] == [(step, 3) for step in steps[1:]]
    for trial in registered:
        assert [step for step, of in done if of == trial] == list(steps)
    assert set(stored(client)) == {-1, 0, 2, 4}
    assert versions(client) == ["1", "3", "4"]
    assert aliases_of(client) == {"challenger": "1", "champion": "3"}
    assert loads(f"models:/{NAME}@champion")
    assert kept_bytes() < 4 * LARGE


def test_another_run_finds_nothing_to_do(client, capsys):
    run_clean(apply=True, versions=True)
    before, was = content(), files()
    run_clean(versions=True)
    assert "0 models (0.0 MB) of 4 models" in capsys.readouterr().out
    assert content() == before
    assert files() == was


def hook(monkeypatch, target, name, action):
    """Run `action` just before the first call of a method."""
    real, left = getattr(target, name), [action]

    def call(*arguments, **more):
        while left:
            left.pop()()
        return real(*arguments, **more)

    monkeypatch.setattr(target, name, call)


@pytest.mark.parametrize(
    ("target", "method"),
    [
        pytest.param(models, "delete", id="after_planning"),
        pytest.param(MlflowClient, "set_logged_model_tags", id="before_the_mark"),
        pytest.param(registry, "versions_of", id="before_looking"),
    ],
)
def test_a_version_that_gets_the_alias_after_planning_survives(
    client, monkeypatch, capsys, target, method
):
    for trial in (3, 5):  # so that the version in question goes first
        models.delete(client, stored(client)[trial], versions=True, why="x")
    number = VERSIONS[1]

    def move():
        client.set_registered_model_alias(NAME, "champion", number)

    hook(monkeypatch, target, method, move)
    run_clean(apply=True, versions=True)
    assert aliases_of(client)["champion"] == number
    assert loads(f"models:/{NAME}@champion")
    assert loads(f"models:/{NAME}/{number}")
    one = stored(client)[1]
    assert not one.begun
    assert models.REMOVED_TAG not in client.get_run(one.run_id).data.tags
    assert "is kept: fer-emotion version 2 is champion" in capsys.readouterr().out


def test_an_alias_that_comes_between_two_versions_of_a_model_saves_it(client, monkeypatch):
    one = stored(client)[1]
    tags = {"study": "s"}
    client.create_model_version(NAME, f"models:/{one.model_id}", run_id=one.run_id, tags=tags)
    gone = []
    real = MlflowClient.delete_model_version

    def delete(self, name, number):
        real(self, name, number)
        gone.append(number)
        (other,) = {VERSIONS[1], "6"} - {number}
        client.set_registered_model_alias(NAME, "mine", other)

    monkeypatch.setattr(MlflowClient, "delete_model_version", delete)
    assert "is mine" in models.delete(client, stored(client)[1], versions=True, why="x")
    assert len(gone) == 1
    assert loads(f"models:/{NAME}@mine")


def test_a_model_that_is_registered_after_planning_survives(client, monkeypatch):
    three = stored(client)[3]

    def register():
        client.create_model_version(NAME, f"models:/{three.model_id}", run_id=three.run_id)
        client.set_registered_model_alias(NAME, "mine", "6")

    hook(monkeypatch, models, "delete", register)
    run_clean(apply=True)
    assert loads(f"models:/{NAME}@mine")


@pytest.fixture
def mlflow_gc(monkeypatch):
    """Run `mlflow gc`, which changes the tracking URI of its process."""

    def run():
        uri = MlflowClient().tracking_uri
        done = CliRunner().invoke(gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
        assert done.exit_code == 0, done.output

    yield run
    mlflow.set_tracking_uri(None)


def test_mlflow_gc_deletes_files_under_a_live_alias_and_clean_cannot(client, mlflow_gc):
    champion = stored(client)[2]
    assert (
        models.delete(client, champion, versions=True, why="x") == f"{NAME} version 3 is champion"
    )
    run_clean(apply=True, versions=True)
    mlflow_gc()
    assert loads(f"models:/{NAME}@champion")

    client.delete_logged_model(champion.model_id)
    run_clean(apply=True, versions=True)
    assert loads(f"models:/{NAME}@champion")
    mlflow_gc()
    assert aliases_of(client)["champion"] == "3"
    with pytest.raises((MlflowException, OSError)):
        loads(f"models:/{NAME}@champion")


def test_after_mlflow_gc_the_records_of_cleaned_models_are_gone_too(client, mlflow_gc):
    run_clean(apply=True, versions=True)
    left = files()
    mlflow_gc()
    assert files() == left
    assert set(stored(client)) == {-1, 0, 2, 4}


def register_copy(client, model):
    client.copy_model_version(f"models:/{NAME}/{VERSIONS[model.trial]}", "copies")


def register_path(client, model):
    client.create_registered_model("paths")
    client.create_model_version("paths", model.location)


def register_run(client, model):
    client.create_registered_model("runs")
    client.create_model_version("runs", f"runs:/{model.run_id}/m", run_id=model.run_id)


def register_version(client, model):
    mlflow.register_model(f"models:/{NAME}/{VERSIONS[model.trial]}", "versions")
    client.set_registered_model_alias("versions", "production", "1")
    assert loads("models:/versions@production")


def register_address_of_run(client, model):
    client.create_registered_model("addresses")
    client.create_model_version("addresses", f"runs:/{model.run_id}/{model.name}")


@pytest.mark.parametrize(
    "register",
    [register_copy, register_path, register_run, register_version, register_address_of_run],
)
def test_what_others_registered_under_any_name_and_address_stays(client, register):
    one = stored(client)[1]
    register(client, one)
    run_clean(apply=True, versions=True)
    assert set(stored(client)) == {-1, 0, 1, 2, 4}
    assert loads(f"models:/{NAME}/2")


def test_a_version_in_a_stage_that_is_in_use_stays(client):
    with pytest.warns(FutureWarning, match="stages"):
        client.transition_model_version_stage(NAME, VERSIONS[1], "Production")
    run_clean(apply=True, versions=True)
    assert set(stored(client)) == {-1, 0, 1, 2, 4}


@pytest.mark.parametrize("which", ["study", "trial", "nested study"])
def test_a_study_that_runs_is_left_alone(client, which, capsys):
    model = stored(client)[5]
    run_id = model.run_id if which == "trial" else model.study_run_id
    if which == "nested study":  # as by mlflow.run inside another run
        client.set_tag(run_id, "mlflow.parentRunId", "0" * 32)
    client.update_run(run_id, status="RUNNING")
    before = kept_bytes()
    run_clean(apply=True, versions=True)
    assert kept_bytes() == before
    assert (
        " ".join(re.findall(r"[\w:.]+", capsys.readouterr().out)).count("its study is running") == 6
    )


def test_a_model_that_is_still_being_stored_is_left_alone(client):
    two_runs = [stored(client)[trial].run_id for trial in (1, 3)]
    client.delete_tag(two_runs[0], models.MODEL_TAG)
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        database.execute(
            "UPDATE logged_models SET status = 1 WHERE source_run_id = ?", (two_runs[1],)
        )
        database.commit()
    run_clean(apply=True, versions=True)
    assert set(stored(client)) == {-1, 0, 1, 2, 3, 4}


def test_files_that_are_not_there_are_no_reason_to_forget_the_models(client):
    shutil.move("artifacts", "elsewhere")
    run_clean(apply=True, versions=True)
    shutil.move("elsewhere", "artifacts")
    assert len(stored(client)) == 7


def test_the_model_of_a_deleted_run_can_go_too(client):
    client.delete_run(stored(client)[3].run_id)
    run_clean(apply=True)
    assert 3 not in stored(client)


def test_one_study_can_be_cleaned_by_itself(client, capsys):
    begin_study(client, "other", {0: (0.2, SMALL, False), 1: (0.1, SMALL, False)})
    run_clean(apply=True, study="other")
    assert {m.study for m in models.inventory(client) if m.trial == 3} == {"s"}
    assert [m.trial for m in models.inventory(client, "other")] == [0]
    assert "Study s" not in capsys.readouterr().out
    with pytest.raises(StoreError, match="studies with models: other, s"):
        run_clean(study="nobodys")


def refuses(self, path=None):
    raise MlflowException("Not implemented yet")


@pytest.mark.parametrize(
    ("delete_artifacts", "said"),
    [
        pytest.param(refuses, "cannot be deleted: Not implemented yet", id="refuses"),
        pytest.param(lambda self, path=None: None, "MLflow did not delete", id="does_nothing"),
    ],
)
def test_a_store_that_does_not_delete_files_is_named(client, monkeypatch, delete_artifacts, said):
    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "delete_artifacts", delete_artifacts)
        with pytest.raises(StoreError, match=said):
            run_clean(apply=True, versions=True)
    assert versions(client) == ["1", "2", "3", "4", "5"]
    assert models.REMOVED_TAG not in client.get_run(stored(client)[3].run_id).data.tags
    run_clean(apply=True, versions=True)
    assert end_state(client) == CLEANED


@pytest.mark.parametrize("trial", [1, 3])
def test_a_model_that_cannot_be_deleted_keeps_no_other_one_back(client, monkeypatch, trial):
    real, bad = LocalArtifactRepository.delete_artifacts, stored(client)[trial].model_id

    def delete_artifacts(self, path=None):
        if bad in self.artifact_uri:
            raise PermissionError(13, "not yours")
        real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "delete_artifacts", delete_artifacts)
        for _ in range(2):
            with pytest.raises(StoreError, match="not yours"):
                run_clean(apply=True, versions=True)
    assert set(stored(client)) == {-1, 0, 2, 4, trial}
    run_clean(apply=True, versions=True)
    assert end_state(client) == CLEANED


def test_two_at_once_end_as_one(client, monkeypatch, capsys):
    def other():
        run_clean(apply=True, versions=True)

    hook(monkeypatch, models, "delete", other)
    run_clean(apply=True, versions=True)
    assert end_state(client) == CLEANED
    assert capsys.readouterr().out.count("already deleted by someone else") == 3


def test_the_run_of_mlflow_run_is_adopted_even_if_nothing_is_deleted(client, monkeypatch):
    run_id = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    run_clean()
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["fer.command"]) == ("FINISHED", "clean")
    assert run.data.params == {"apply": "false", "versions": "false", "keep": "1", "study": "auto"}
    assert "models_deleted" not in run.data.metrics


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An MLflow server that stores the artifacts itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    command = (
        sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", "1",
        "--backend-store-uri", f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination", str(tmp_path / "artifacts"),
    )  # fmt: skip
    with open(tmp_path / "server.txt", "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    deadline = time.time() + 200
    while time.time() < deadline:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5),
        ):
            break
        time.sleep(0.5)
    yield store.connect()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_server_deletes_the_files_that_it_keeps(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    begin_study(server, "s", TRIALS)
    aliases.set_challenger(server, NAME, VERSIONS[0])
    aliases.set_champion(server, NAME, VERSIONS[2])
    assert len([file for file in files() if file.name == "model.keras"]) == 6
    run_clean(apply=True, versions=True)
    assert set(stored(server)) == {0, 2, 4}
    assert versions(server) == ["1", "3", "4"]
    assert len([file for file in files() if file.name == "model.keras"]) == 3
    assert loads(f"models:/{NAME}@champion")
