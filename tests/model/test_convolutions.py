import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_search.model import classifier, convolutions
from fer_search.model.optimizers import OPTIMIZERS

TOLERANCE = {"float32": 1e-4, "mixed_bfloat16": 0.03}
KINDS = {
    "pointwise": {"kernel_size": 1},
    "pointwise, every other pixel": {"kernel_size": 1, "strides": 2},
    "3 x 3": {"kernel_size": 3, "padding": "same"},
}
SIDE = 5


def network(policy, side=SIDE, **options):
    with classifier.dtype_policy(policy):
        model = keras.Sequential(
            [
                keras.Input((side, side, 4)),
                keras.layers.Conv2D(6, **options),
                keras.layers.Conv2D(8, **options),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(1, dtype="float32"),
            ]
        )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


def one_step(model, maps, targets):
    """Outputs before, and loss and weights after, one step of plain gradient descent."""
    optimizer = OPTIMIZERS["sgd"](
        learning_rate=0.1, share=lambda _: 1.0, decay=0, ema_decay=0, name="sgd"
    )
    model.compile(optimizer, "mse", jit_compile=False)
    before = model.predict(maps, verbose=0)
    return [before, model.train_on_batch(maps, targets), *model.get_weights()]


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_learns_what_a_convolution_learns(policy, kind):
    rng = np.random.default_rng(1)
    maps, targets = rng.normal(size=(16, SIDE, SIDE, 4)), rng.random((16, 1))
    plain, product = network(policy, **KINDS[kind]), network(policy, **KINDS[kind])
    convolutions.as_products(product)
    is_changed = ["convolution_op" in vars(layer) for layer in product.layers[:2]]
    assert is_changed == [kind != "3 x 3" or policy == "mixed_bfloat16"] * 2
    for ours, theirs in zip(
        one_step(product, maps, targets), one_step(plain, maps, targets), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE[policy], atol=TOLERANCE[policy])


def test_gradients_of_products_are_those_of_convolutions():
    rng = np.random.default_rng(2)
    maps, kernel, upstream = (
        keras.ops.cast(rng.normal(size=shape), "float32")
        for shape in [(3, 4, 5, 2), (3, 3, 2, 6), (3, 4, 5, 6)]
    )

    def gradients(convolve):
        with tf.GradientTape() as tape:
            tape.watch([maps, kernel])
            outputs = convolve(maps, kernel)
        return [outputs, *tape.gradient(outputs, [maps, kernel], upstream)]

    ours = gradients(tf.custom_gradient(convolutions._convolve))
    theirs = gradients(lambda maps, kernel: tf.nn.conv2d(maps, kernel, 1, "SAME"))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"side": convolutions.SMALL + 1}, id="large maps"),
        pytest.param({"strides": 2}, id="strides"),
        pytest.param({"padding": "valid"}, id="no padding"),
        pytest.param({"dilation_rate": 2}, id="gaps"),
        pytest.param({"groups": 2}, id="groups"),
    ],
)
def test_other_convolutions_stay_as_they_are(options):
    model = network("mixed_bfloat16", **{"kernel_size": 3, "padding": "same"} | options)
    convolutions.as_products(model)
    assert not [layer for layer in model.layers if "convolution_op" in vars(layer)]


@pytest.mark.slow
def test_networks_leave_no_graph_behind_that_would_hold_their_weights():
    counts = []
    for _ in range(2):
        model = network("mixed_bfloat16", **KINDS["3 x 3"])
        convolutions.as_products(model)
        one_step(model, np.zeros((16, SIDE, SIDE, 4)), np.zeros((16, 1)))
        del model
        keras.utils.clear_session()
        gc.collect()
        counts.append(sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects()))
    assert counts[0] == counts[1]


def test_what_is_stored_is_keras_own(tmp_path):
    model = network("mixed_bfloat16", **KINDS["3 x 3"])
    convolutions.as_products(model)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert type(again.layers[0]) is keras.layers.Conv2D
    assert "convolution_op" not in vars(again.layers[0])
