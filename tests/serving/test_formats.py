import numpy as np
import pytest

from fer_search.command_config import FORMATS
from fer_search.errors import ConfigError
from fer_search.serving.formats import RUNNERS, export


def test_the_config_names_what_can_be_run():
    assert tuple(RUNNERS) == FORMATS


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNNERS)
def test_an_exported_model_answers_like_its_original_for_any_number_of_faces(
    network, tmp_path, kind
):
    file = tmp_path / f"model.{kind}"
    export(network, kind, file)
    run = RUNNERS[kind](file)
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1)).astype(np.uint8)
    expected = network.predict_on_batch(faces)
    assert expected.std() > 0.01
    for n in (5, 1, 3):
        np.testing.assert_allclose(run(faces[:n]), expected[:n], atol=1e-5)


def test_another_backend_than_tensorflow_is_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ConfigError, match="only TensorFlow can export"):
        export(network, "onnx", tmp_path / "m.onnx")
