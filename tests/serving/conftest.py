import keras
import pytest

from fer_search.config import EMOTIONS


@pytest.fixture(scope="session")
def network():
    """A small inference model like the stored ones: grey images in, probabilities out."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(len(EMOTIONS), activation="softmax")(features)
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="session")
def keras_file(network, tmp_path_factory):
    file = tmp_path_factory.mktemp("kept models #1 100%") / "model.keras"
    network.save(file)
    return file
