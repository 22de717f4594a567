import contextlib

import keras
import pytest

from fer_search.config import EMOTIONS
from fer_search.serving import package
from fer_search.tracking import store


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
