import keras
import numpy as np
import pytest

from fer_search.model import classifier
from fer_search.model.batch_norm import fuse

TOLERANCE = {
    "float32": 2e-3,  # n / (n - 1) in the running variance
    "mixed_bfloat16": 0.04,
}


def network(policy):
    with classifier.dtype_policy(policy):
        model = keras.Sequential(
            [
                keras.Input((6, 5, 3)),
                keras.layers.BatchNormalization(epsilon=1.001e-5, momentum=0.9),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(1, dtype="float32"),
            ]
        )
    rng = np.random.default_rng(0)
    model.set_weights([0.5 + rng.random(weight.shape) for weight in model.weights])
    return model


def one_step(model, images, targets):
    """Outputs before and after one step of gradient descent, its loss, and all weights after it."""
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    before = model.predict(images, verbose=0)
    loss = model.train_on_batch(images, targets)
    return [before, loss, *model.get_weights(), model.predict(images, verbose=0)]


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("trainable", [True, False])
def test_a_fused_layer_learns_what_keras_learns(policy, trainable):
    rng = np.random.default_rng(1)
    images, targets = rng.normal(3, 2, (64, 6, 5, 3)), rng.random((64, 1))
    plain, fused = network(policy), network(policy)
    fuse(fused)
    for model in (plain, fused):
        model.layers[0].trainable = trainable
    results = zip(one_step(plain, images, targets), one_step(fused, images, targets), strict=True)
    for ours, theirs in results:
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[policy], atol=TOLERANCE[policy])


def test_running_statistics_move_in_training_only():
    images = np.random.default_rng(2).normal(3, 2, (64, 6, 5, 3))
    model = network("float32")
    fuse(model)
    layer = model.layers[0]
    before = layer.moving_mean.numpy()
    layer(images, training=False)
    assert np.array_equal(layer.moving_mean, before)
    layer(images, training=True)
    expected = 0.9 * before + 0.1 * images.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.moving_mean, expected, rtol=1e-5)


def test_what_is_stored_is_keras_own(tmp_path):
    model = network("float32")
    fuse(model)
    images = np.random.default_rng(3).normal(3, 2, (4, 6, 5, 3))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert type(again.layers[0]) is keras.layers.BatchNormalization
    assert "call" not in vars(again.layers[0])
    np.testing.assert_allclose(model(images), again(images), rtol=1e-5)


def test_layers_over_vectors_stay_as_they_are():
    model = keras.Sequential([keras.Input((7,)), keras.layers.BatchNormalization()])
    fuse(model)
    assert "call" not in vars(model.layers[0])
