import contextlib
import shutil
import sqlite3

import keras
import pytest
import sqlalchemy
from small_store import LARGE, NAME, TRIALS, VERSIONS, begin_study, store_model

from fer_search.config import EMOTIONS
from fer_search.serving import package
from fer_search.tracking import aliases, store


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A store with one model, and the model's address."""
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
    """SQLite does not wait for the disk here: nobody pulls the plug."""

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
        aliases.challenge(client, NAME, VERSIONS[0])
        aliases.crown(client, NAME, VERSIONS[2])
        experiment = client.get_experiment_by_name("faces").experiment_id
        run = client.create_run(experiment, run_name="mine")
        store_model(client, run, "someones", LARGE, {"study": "s"})
    return folder, shutil.copytree(folder, folder.with_name("pristine"))


@pytest.fixture
def client(template, monkeypatch):
    """The store, as it was at the beginning: opening another one would take longer."""
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
