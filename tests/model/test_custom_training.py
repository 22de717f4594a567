import contextlib
import json
import types
import zipfile

import keras
import numpy as np
import pytest

from fer_search.config import EMOTIONS
from fer_search.errors import HyperModelError, TrialFailed
from fer_search.model.custom_training import check_network, train_custom
from fer_search.model.portable import custom_objects
from fer_search.model.training import evaluate
from fer_search.serving.predictor import EmotionPredictor

LAYERS = keras.layers


def tutorial(
    size=48, channels=1, units=7, activation="softmax", loss=None, extra=(), metrics=("accuracy",)
):
    """A small network like those in tutorials."""
    model = keras.Sequential(
        [
            keras.Input((size, size, channels)),
            LAYERS.Rescaling(1 / 255),
            LAYERS.AveragePooling2D(4),
            *extra,
            LAYERS.Flatten(),
            LAYERS.Dense(units, activation=activation),
        ]
    )
    model.compile("adam", loss or "sparse_categorical_crossentropy", metrics=list(metrics))
    return model


def fit(model, **settings):
    return model.fit(batch_size=16, **settings)


def train(splits, build=tutorial, fit=fit, on_epoch=lambda _: None, **settings):
    settings = {"epochs": 2, "patience": 6, "seed": 1} | settings
    return train_custom("m:M", build, fit, splits, on_epoch=on_epoch, **settings)


def test_a_tutorial_style_network_is_trained_told_of_and_kept_as_it_scores(splits):
    heard, batches = [], []
    model, result = train(
        splits,
        epochs=3,
        on_epoch=heard.append,
        on_batch=lambda *place: batches.append(place),
    )
    assert tuple(heard) == result.epochs
    assert [epoch.epoch for epoch in heard] == [1, 2, 3]
    assert heard[2].loss < heard[0].loss
    assert heard[0].learning_rate == pytest.approx(1e-3)
    assert all(epoch.images_per_second > 0 for epoch in heard)
    assert batches[:2] == [(1, 1, 9), (1, 2, 9)]
    scores = [epoch.val_macro_f1 for epoch in heard]
    assert result.best_epoch == scores.index(max(scores)) + 1
    again = evaluate(model, splits.validation.images, splits.validation.labels)
    assert again.macro_f1 == result.objective == pytest.approx(max(scores), abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    ["categorical_crossentropy", keras.losses.CategoricalCrossentropy()],
    ids=["name", "object"],
)
def test_a_categorical_loss_gets_one_hot_labels(splits, loss):
    seen = []

    def fit(model, *, y, validation_data, **settings):
        seen.extend([y.shape, validation_data[1].shape])
        return model.fit(y=y, validation_data=validation_data, **settings)

    train(splits, build=lambda: tutorial(loss=loss), fit=fit, epochs=1)
    assert seen == [(140, 7), (45, 7)]


@pytest.mark.slow
@pytest.mark.parametrize("loss", [keras.losses.categorical_crossentropy, "mse", "kl_divergence"])
def test_only_sparse_losses_get_integers(splits, loss):
    _, result = train(splits, build=lambda: tutorial(loss=loss), epochs=1)
    assert len(result.epochs) == 1


@pytest.mark.slow
def test_an_accuracy_that_is_not_told_is_not_logged(splits):
    _, result = train(splits, build=lambda: tutorial(metrics=()), epochs=1)
    assert "epoch/accuracy" not in result.epochs[0].metrics()
    assert "epoch/val_accuracy" in result.epochs[0].metrics()


@pytest.mark.slow
def test_nothing_of_how_it_was_compiled_is_saved(splits, tmp_path):
    def loss(true, predicted):
        return keras.losses.sparse_categorical_crossentropy(true, predicted)

    model, _ = train(splits, build=lambda: tutorial(loss=loss), epochs=1)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        assert not json.loads(file.read("config.json")).get("compile_config")


@pytest.mark.slow
def test_a_stored_network_of_another_size_answers_as_it_was_evaluated(splits, tmp_path):
    model, result = train(splits, build=lambda: tutorial(size=64), epochs=1)
    model.save(tmp_path / "model.keras")
    served = EmotionPredictor()
    config = {"emotions": list(EMOTIONS), "backend": keras.config.backend()}
    place = {"model": str(tmp_path / "model.keras")}
    served.load_context(types.SimpleNamespace(artifacts=place, model_config=config))
    np.testing.assert_allclose(
        served.predict_images(splits.validation.images), result.validation.probabilities, atol=1e-5
    )


def test_images_are_bytes_of_the_size_that_the_network_takes(splits):
    seen = {}

    def fit(model, **settings):
        seen.update(settings)
        return model.fit(**settings)

    train(splits, build=lambda: tutorial(size=64), fit=fit, epochs=1)
    assert (seen["x"].shape, seen["x"].dtype) == ((140, 64, 64, 1), np.uint8)
    assert seen["y"].tolist() == splits.train.labels.tolist()
    assert seen["validation_data"][0].shape == (45, 64, 64, 1)


def test_training_ends_when_epochs_bring_nothing_better(splits):
    def fit(model, **settings):
        model.optimizer.learning_rate = 0.0
        return model.fit(**settings)

    _, result = train(splits, fit=fit, epochs=9, patience=2)
    assert (len(result.epochs), result.best_epoch) == (3, 1)


def test_what_on_epoch_raises_passes_through(splits):
    def prune(_epoch):
        raise InterruptedError("pruned")

    with pytest.raises(InterruptedError, match="pruned"):
        train(splits, on_epoch=prune)


def test_what_on_epoch_raises_cannot_be_swallowed(splits):
    def prune(_epoch):
        raise InterruptedError("pruned")

    def fit(model, **settings):
        with contextlib.suppress(Exception):
            return model.fit(**settings)

    with pytest.raises(InterruptedError, match="pruned"):
        train(splits, fit=fit, on_epoch=prune)


def test_what_on_epoch_raises_is_not_taken_for_too_little_memory(splits):
    def prune(_epoch):
        raise RuntimeError("the database is out of memory")

    with pytest.raises(RuntimeError, match="the database") as caught:
        train(splits, on_epoch=prune)
    assert not isinstance(caught.value, TrialFailed)


def test_too_little_memory_loses_the_trial(splits):
    def fit(model, **settings):
        raise MemoryError

    with pytest.raises(TrialFailed) as failure:
        train(splits, fit=fit)
    assert failure.value.kind == "out_of_memory"


def test_a_loss_that_is_not_finite_loses_the_trial(splits):
    def fit(model, *, x, **settings):
        return model.fit(x=x * np.float32("nan"), **settings)

    with pytest.raises(TrialFailed) as failure:
        train(splits, fit=fit)
    assert failure.value.kind == "not_finite"


def test_a_fit_that_keeps_its_callbacks_to_itself_is_refused(splits):
    with pytest.raises(HyperModelError, match="fit reported no epoch"):
        train(splits, fit=lambda model, callbacks, **settings: model.fit(**settings))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        pytest.param(lambda: "a model", "build returned a str", id="no_model"),
        pytest.param(lambda: tutorial(channels=3), r"from \(None, 48, 48, 3\)", id="colour"),
        pytest.param(lambda: tutorial(units=8), r"to \(None, 8\)", id="eight"),
        pytest.param(lambda: tutorial(activation=None), "softmax", id="logits"),
        pytest.param(
            lambda: keras.Sequential([keras.Input((48, 48, 1)), LAYERS.Flatten(), LAYERS.Dense(7)]),
            "not compiled",
            id="not_compiled",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(build, said):
    with pytest.raises(HyperModelError, match=said):
        check_network(build(), "m:M")


def test_values_that_build_what_cannot_be_stored_lose_their_trial_only(splits):
    with pytest.raises(TrialFailed, match="Stranger") as failure:
        train(splits, build=lambda: tutorial(extra=[Stranger()]))
    assert failure.value.kind == "hypermodel"


class Stranger(LAYERS.Layer):
    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("someone")
class Registered(LAYERS.Layer):
    def call(self, inputs):
        return inputs


def odd(inputs):
    return inputs


class Subclass(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        pytest.param(lambda: Stranger(), "Stranger", id="layer"),
        pytest.param(lambda: Registered(), "Registered", id="registered"),
        pytest.param(lambda: LAYERS.Activation(odd), "odd", id="function"),
        pytest.param(lambda: LAYERS.Lambda(lambda x: x), "Lambda", id="lambda"),
        pytest.param(lambda: keras.Sequential([Stranger()]), "Stranger", id="nested"),
    ],
)
def test_code_that_is_not_kerass_is_found_and_refused(extra, name):
    model = tutorial(extra=[extra()])
    assert custom_objects(model) == {name}
    with pytest.raises(HyperModelError, match=f"code from outside Keras: {name}"):
        check_network(model, "m:M")


def test_a_subclass_of_model_is_custom():
    assert custom_objects(Subclass()) == {"Subclass"}


def test_a_custom_loss_does_not_count():
    model = tutorial(loss=lambda true, predicted: keras.ops.mean(predicted))
    assert custom_objects(model) == set()


def test_kerass_own_layers_are_no_strangers():
    inputs = keras.Input((48, 48, 1))
    x = LAYERS.RandomFlip()(LAYERS.Concatenate()([inputs] * 3))
    x = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(48, 48, 3))(x)
    x = LAYERS.Dense(
        7, "gelu", kernel_regularizer=keras.regularizers.L2(), kernel_initializer="zeros"
    )(x)
    assert custom_objects(keras.Model(inputs, keras.ops.mean(x * 2, axis=(1, 2)))) == set()
