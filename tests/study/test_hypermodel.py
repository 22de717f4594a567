"""Our HyperModel, used by KerasTuner."""

import keras_tuner
import numpy as np
import pytest

from fer_search.config import SearchConfig
from fer_search.data.synthetic import draw
from fer_search.study.hypermodel import EmotionHyperModel

SEARCH = SearchConfig(backbones="tiny", weights="none", image_sizes="48", epochs=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*currentThread.*:DeprecationWarning")  # KerasTuner's own
@pytest.mark.filterwarnings("ignore:.*getName.*:DeprecationWarning")
def test_hyperband_searches_our_networks_unchanged(tmp_path):
    images, labels = draw(420, seed=1)
    tuner = keras_tuner.Hyperband(
        EmotionHyperModel(SEARCH),
        objective=keras_tuner.Objective("val_macro_f1", "max"),
        max_epochs=3,
        factor=3,
        seed=1,
        directory=tmp_path,
    )
    tuner.search(
        images[:350], labels[:350], validation_data=(images[350:], labels[350:]), verbose=0
    )
    trials = tuner.oracle.trials.values()
    assert {trial.status for trial in trials} == {"COMPLETED"}
    assert any(trial.hyperparameters.values["tuner/initial_epoch"] for trial in trials)
    (best,) = tuner.get_best_hyperparameters(1)
    assert {"backbone", "optimizer", "dropout", "imbalance"} <= set(best.values)
    (model,) = tuner.get_best_models(1)
    found = model.predict(images[350:, ..., np.newaxis], verbose=0).argmax(axis=1)
    (trial,) = tuner.oracle.get_best_trials(1)
    accuracy = trial.metrics.get_history("val_accuracy")[0].value[0]
    assert (found == labels[350:]).mean() == pytest.approx(accuracy, abs=0.02)
