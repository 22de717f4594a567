import keras
import numpy as np
import pytest

from fer_search import config
from fer_search.model import optimizers
from fer_search.model.optimizers import OPTIMIZERS, SCHEDULES
from fer_search.trial_config import TrialConfig

STEPS = 200


def model() -> keras.Model:
    """A one-layer backbone named `tiny` and a head; all weights are 0.5, so that all can decay."""
    inputs = keras.Input((4,), name="input")
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="tiny")
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(backbone(inputs)))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.5))
    return model


def moved(gradient: float, **settings) -> dict[str, np.ndarray]:
    """How far one step with the same gradient everywhere moves each weight."""
    network = model()
    trial = TrialConfig(**{"backbone": "tiny", "warmup": 0, "learning_rate": 0.1} | settings)
    optimizer = optimizers.create(trial, network, STEPS)
    weights = network.trainable_variables
    optimizer.apply([keras.ops.full(weight.shape, gradient) for weight in weights], weights)
    (backbone_kernel, backbone_bias, kernel, bias) = network.get_weights()
    return {
        "backbone kernel": backbone_kernel - 0.5,
        "backbone bias": backbone_bias - 0.5,
        "head kernel": kernel - 0.5,
        "head bias": bias - 0.5,
    }


def test_the_table_holds_the_names_of_the_config():
    assert tuple(OPTIMIZERS) == config.OPTIMIZERS


@pytest.mark.parametrize("weight_decay", [0, 0.3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_backbone_steps_and_decays_at_its_share_of_the_rate(optimizer, weight_decay):
    settings = {"optimizer": optimizer, "weight_decay": weight_decay}
    whole = moved(0.01, **settings, backbone_rate=1)
    quarter = moved(0.01, **settings, backbone_rate=0.25)
    for name, distance in quarter.items():
        share = 0.25 if name.startswith("backbone") else 1
        np.testing.assert_allclose(distance, share * whole[name], rtol=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_kernels_decay_by_rate_times_decay_and_biases_do_not(optimizer):
    still = moved(0.0, optimizer=optimizer, weight_decay=0.3, backbone_rate=0.5)
    np.testing.assert_allclose(still["head kernel"], -0.1 * 0.3 * 0.5, rtol=1e-4)
    np.testing.assert_allclose(still["backbone kernel"], 0.5 * -0.1 * 0.3 * 0.5, rtol=1e-4)
    assert not still["head bias"].any()
    assert not still["backbone bias"].any()


def test_the_share_holds_over_many_steps():
    distances = []
    for share in (1.0, 0.5):
        network = model()
        trial = TrialConfig(
            backbone="tiny", optimizer="sgd", weight_decay=0, backbone_rate=share, warmup=0
        )
        optimizer = optimizers.create(trial, network, STEPS)
        weights = network.trainable_variables
        for _ in range(5):
            optimizer.apply([keras.ops.full(weight.shape, 0.01) for weight in weights], weights)
        distances.append(network.get_weights()[0] - 0.5)
    np.testing.assert_allclose(distances[1], 0.5 * distances[0], rtol=1e-2)


def test_a_large_gradient_is_clipped_over_all_weights():
    distance = moved(1e6, optimizer="sgd", weight_decay=0)
    total = np.sqrt(sum((part**2).sum() for part in distance.values()))
    assert total == pytest.approx(0.1 * 1.9, rel=1e-3)  # Nesterov's first step is 1 + 0.9 of one


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_brake_shortens_step_and_decay_alike(optimizer):
    network = model()
    trial = TrialConfig(
        backbone="tiny", optimizer=optimizer, warmup=0, learning_rate=0.1, weight_decay=0.3
    )
    braked = optimizers.create(trial, network, STEPS)
    weights = network.trainable_variables
    braked.build(weights)
    braked.slow_down(0.5)
    braked.slow_down(0.5)
    braked.apply([keras.ops.full(weight.shape, 0.01) for weight in weights], weights)
    whole = moved(0.01, optimizer=optimizer, weight_decay=0.3)["head kernel"]
    np.testing.assert_allclose(network.get_weights()[2] - 0.5, whole / 4, rtol=1e-4)
    assert braked.rate == pytest.approx(float(braked.learning_rate) / 4)


def test_without_a_limit_nothing_is_clipped():
    free = moved(10.0, optimizer="sgd", weight_decay=0, clip_norm=0)
    np.testing.assert_allclose(free["head kernel"], -0.1 * 1.9 * 10, rtol=1e-4)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_weights_are_averaged_over_what_decay_and_a_tenth_of_the_steps_allow(decay):
    network = model()
    trial = TrialConfig(backbone="tiny", optimizer="sgd", warmup=0, ema_decay=decay)
    optimizer = optimizers.create(trial, network, STEPS)
    weights = network.trainable_variables
    expected = 0.0
    for step in range(30):
        optimizer.apply([keras.ops.full(weight.shape, 0.01) for weight in weights], weights)
        kept = min(decay, step / (step + 9))
        expected = kept * expected + (1 - kept) * network.get_weights()[2]
    raw = network.get_weights()
    with optimizer.averaged():
        np.testing.assert_allclose(network.get_weights()[2], expected, rtol=1e-5)
        assert not np.allclose(network.get_weights()[2], raw[2], rtol=1e-6)
    for value, before in zip(network.get_weights(), raw, strict=True):
        assert (value == before).all()


def test_without_averaging_the_weights_stay_as_they_are():
    network = model()
    optimizer = optimizers.create(TrialConfig(backbone="tiny"), network, STEPS)
    optimizer.build(network.trainable_variables)
    raw = network.get_weights()
    with optimizer.averaged():
        assert all((a == b).all() for a, b in zip(network.get_weights(), raw, strict=True))


def test_the_table_of_schedules_holds_the_names_of_the_config():
    assert tuple(SCHEDULES) == config.SCHEDULES


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_on_a_plateau_schedule_the_rate_stays_after_its_rise(warmup):
    schedule = SCHEDULES["plateau"](0.02, STEPS, warmup)
    rates = [float(schedule(step)) for step in range(STEPS + 1)]
    peak = int(warmup * STEPS)
    assert rates[:peak] == sorted(rates[:peak])
    np.testing.assert_allclose(rates[peak:], 0.02, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(warmup):
    schedule = SCHEDULES["cosine"](0.02, STEPS, warmup)
    rates = [float(schedule(step)) for step in range(STEPS + 1)]
    peak = int(warmup * STEPS)
    assert max(rates) == rates[peak] == pytest.approx(0.02)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-8)
    if warmup:
        assert rates[0] == 0


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_training_has_a_schedule(name, steps):
    schedule = SCHEDULES[name](0.02, steps, 0.99)
    assert all(0 <= float(schedule(step)) <= 0.02 for step in range(steps + 1))
