import keras
import numpy as np
import pytest

from fer_search.model.fused_steps import FusedAdam, FusedNesterov

PAIRS = {
    "adam": (FusedAdam, keras.optimizers.Adam),
    "nesterov": (
        lambda **options: FusedNesterov(momentum=0.9, **options),
        lambda **options: keras.optimizers.SGD(momentum=0.9, nesterov=True, **options),
    ),
}


def weights_and_state(optimizer, *, n_steps: int = 20) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=shape)) for shape in [(3, 3, 8, 16), (16,)]]
    for step in range(n_steps):
        size = 10.0 ** (step % 4 - 2)  # some of these are clipped
        gradients = [rng.normal(scale=size, size=weight.shape) for weight in weights]
        optimizer.apply([keras.ops.cast(each, "float32") for each in gradients], weights)
    return [np.asarray(each) for each in [*weights, *optimizer.variables]]


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("name", PAIRS)
def test_steps_are_those_of_keras(name, clip):
    fused, kerass = (make(learning_rate=3e-3, global_clipnorm=clip) for make in PAIRS[name])
    pairs = zip(weights_and_state(fused), weights_and_state(kerass), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_a_rate_may_change_from_step_to_step(name):
    falling = keras.optimizers.schedules.CosineDecay(1e-2, 20)
    ours, theirs = (weights_and_state(make(learning_rate=falling))[0] for make in PAIRS[name])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
