import contextlib
import shutil
import sqlite3

import keras
import pytest
import sqlalchemy
from mlflow import MlflowClient
from small_data import drawn_splits
from small_store import LARGE, NAME, TRIALS, VERSIONS, begin_study, store_model

from fer_search import runtime
from fer_search.config import EMOTIONS, SearchConfig
from fer_search.serving import package
from fer_search.study.studies import create_study, open_storage
from fer_search.tracking import aliases, store
from fer_search.tracking.runs import StudyRun


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """Address of a store with one model, and the model's URI."""
    folder = tmp_path_factory.mktemp("store")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(len(EMOTIONS), activation="softmax")(hidden)
    keras.Model(inputs, outputs).save(folder / "model.keras")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        client = store.connect()
        run = store.begin_run(client, "s", {})
        model_id = package.log_model(
            client, run_id=run.info.run_id, experiment_id="0", keras_file=folder / "model.keras",
            name="m", params={}, tags={},
        )  # fmt: skip
    return uri, f"models:/{model_id}"


@pytest.fixture(scope="session")
def unsynced():
    """SQLite does not wait for the disk here: no test cuts the power."""

    def relax(connection, _):
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", relax)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", relax)


@pytest.fixture(scope="session")
def template(unsynced, tmp_path_factory):
    """A store with a study of six trials and a model that no search made."""
    folder = tmp_path_factory.mktemp("template") / "store"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = store.connect()
        client.create_experiment("faces", artifact_location=str(folder / "artifacts"))
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
        begin_study(client, "s", TRIALS)
        aliases.set_challenger(client, NAME, VERSIONS[0])
        aliases.set_champion(client, NAME, VERSIONS[2])
        experiment = client.get_experiment_by_name("faces").experiment_id
        run = client.create_run(experiment, run_name="mine")
        store_model(client, run, "someones", LARGE, {"study": "s"})
    return folder, shutil.copytree(folder, folder.with_name("pristine"))


@pytest.fixture
def client(template, monkeypatch):
    """The store in its original state; opening another one would take longer."""
    folder, pristine = template
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    shutil.copytree(pristine / "artifacts", folder / "artifacts")
    with (
        contextlib.closing(sqlite3.connect(pristine / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as target,
    ):
        source.backup(target)
    return store.connect()


@pytest.fixture(scope="session")
def splits():
    return drawn_splits()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A tracking store with its tables, which take a second to create."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with contextlib.chdir(file.parent):  # artifacts go to the folder where it is created
        MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def study(splits, own_home, empty_store):
    shutil.copy(empty_store, own_home)
    search = SearchConfig(
        study="s", trials=2, backbones="tiny", weights="none", image_sizes="48", epochs=1,
        pruner="none", precision="float32",
    )  # fmt: skip
    runtime.configure("float32")
    run = store.begin_run(store.connect(), "s", search.to_params())
    facts = {
        "run_id": run.info.run_id, "train_digest": splits.train_digest,
        "test_digest": splits.test_digest, "seconds_used": 0.0,
    }  # fmt: skip
    return create_study(open_storage("sqlite:///optuna.db"), search, facts)


@pytest.fixture
def study_run(study):
    client = store.connect()
    return StudyRun(client, client.get_run(study.facts["run_id"]))
