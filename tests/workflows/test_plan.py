"""KerasTuner's own HyperModels, unchanged, from a plan to a model that can be stored."""

import types
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from fer_search.config import SearchConfig
from fer_search.data.synthetic import draw
from fer_search.serving.evaluation import evaluate_views
from fer_search.workflows.plan import plan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("HyperResNet", {"version", "optimizer"}),
        pytest.param(
            *("HyperXception", {"kernel_size", "num_dense_layers"}), marks=pytest.mark.long
        ),
    ],
)
def test_kerastuners_own_hypermodels_are_trained_as_they_are(tmp_path, name, asked):
    images, labels = draw(56, seed=1)
    part = types.SimpleNamespace(images=images, labels=labels)
    splits = types.SimpleNamespace(train=part, validation=part)
    where = f"keras_tuner.applications:{name}"
    search = SearchConfig(hypermodel=where, image_sizes="48", epochs=1)
    hp = keras_tuner.HyperParameters()
    trial = types.SimpleNamespace(ask=lambda read: read(hp), seed=1)
    planned = plan(trial, search, Path("unused.npz"))
    model, result = planned.train(splits, on_epoch=lambda _: None)
    assert asked | {"hypermodel"} <= set(planned.params)
    assert planned.images(splits) == {}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    again = evaluate_views(loaded, images, result.validation, 2)[2]
    assert again.probabilities.shape == (56, 7)
    np.testing.assert_allclose(
        loaded.predict_on_batch(images[..., np.newaxis]), result.validation.probabilities, atol=1e-4
    )
