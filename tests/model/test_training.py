import gc
import importlib.util
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from small_data import drawn_splits

from fer_search.errors import TrialFailed
from fer_search.model import classifier, epochs, training
from fer_search.model.preview import preview
from fer_search.model.training import evaluate, loss, train
from fer_search.trial_config import Augmentation, TrialConfig


def config(**settings) -> TrialConfig:
    return TrialConfig(
        **{
            "backbone": "tiny",
            "image_size": 32,
            "epochs": 2,
            "batch_size": 32,
            "learning_rate": 3e-3,
            "dropout": 0,
        }
        | settings
    )


def ignore(_epoch) -> None:
    pass


@pytest.fixture(scope="module")
def trained(splits):
    heard: list = []
    batches: list = []
    settings = config(epochs=6, augmentation=Augmentation(shift=0.02, brightness=0.1))
    model, result = train(
        settings, splits, on_epoch=heard.append, on_batch=lambda *place: batches.append(place)
    )
    return types.SimpleNamespace(model=model, result=result, heard=heard, batches=batches)


def test_what_is_easy_is_learned_in_a_few_epochs(trained):
    assert trained.result.objective > 0.9


def test_every_epoch_is_told_in_order_as_in_the_result(trained):
    assert tuple(trained.heard) == trained.result.epochs
    assert [epoch.epoch for epoch in trained.heard] == [1, 2, 3, 4, 5, 6]


def test_every_batch_is_told_from_one_on(trained):
    assert trained.batches == [(epoch, batch, 4) for epoch in range(1, 7) for batch in range(1, 5)]


def test_the_rate_of_the_last_epoch_has_fallen_to_nothing(trained):
    rates = [epoch.learning_rate for epoch in trained.heard]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_throughput_and_time_are_positive(trained):
    assert all(epoch.images_per_second > 0 for epoch in trained.heard)
    assert trained.result.train_seconds > 0


def test_the_first_best_epoch_is_kept(trained):
    scores = [epoch.val_macro_f1 for epoch in trained.heard]
    assert trained.result.best_epoch == scores.index(max(scores)) + 1


def test_the_model_to_store_scores_what_the_result_says(trained, splits):
    again = evaluate(trained.model, splits.validation.images, splits.validation.labels)
    assert again.macro_f1 == trained.result.objective
    assert trained.result.model_parameters == trained.model.count_params()


def test_the_best_epoch_scores_like_the_model_to_store(trained):
    best = trained.result.epochs[trained.result.best_epoch - 1]
    assert best.val_macro_f1 == pytest.approx(trained.result.objective, abs=1e-6)
    assert best.val_loss == pytest.approx(trained.result.validation.loss, rel=1e-4)


@pytest.mark.slow
def test_the_same_config_gives_the_same_result(splits):
    settings = config(
        epochs=1, dropout=0.3, augmentation=Augmentation(shift=0.1, flip=True, erasing=0.3)
    )
    first, second = (train(settings, splits, on_epoch=ignore)[1] for _ in range(2))
    np.testing.assert_allclose(
        first.validation.probabilities, second.validation.probabilities, atol=1e-3
    )
    assert first.epochs[0].loss == pytest.approx(second.epochs[0].loss, rel=1e-3)


@pytest.mark.slow
def test_training_ends_when_epochs_bring_nothing_better(splits):
    _, result = train(config(epochs=30, patience=2), splits, on_epoch=ignore)
    assert len(result.epochs) == result.best_epoch + 2 < 30


@pytest.mark.slow
def test_a_plateau_halves_the_rate_until_patience_ends(splits):
    settings = config(schedule="plateau", learning_rate=1e-9, warmup=0, epochs=9)
    _, result = train(settings, splits, on_epoch=ignore)
    rates = [epoch.learning_rate / 1e-9 for epoch in result.epochs]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.5, 0.5, 0.25, 0.25], rtol=1e-4)


@pytest.fixture
def validated(monkeypatch):
    """The validated weights, epoch by epoch."""
    seen = []

    def run(*arguments, **more):
        metrics, weights = epochs.run(*arguments, **more)
        seen.append(weights)
        return metrics, weights

    monkeypatch.setattr(training, "epochs", types.SimpleNamespace(run=run, predict=epochs.predict))
    return seen


@pytest.mark.slow
def test_the_head_warms_up_alone(splits, validated):
    settings = config(epochs=3, head_warmup=2, schedule="cosine", warmup=0)
    model, result = train(settings, splits, on_epoch=ignore)
    n = len(model.get_layer("tiny").weights)
    first, second, third = (weights[:n] for weights in validated)
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert any((one != other).any() for one, other in zip(second, third, strict=True))
    assert (validated[0][-1] != validated[1][-1]).any(), "the head did not train"
    np.testing.assert_allclose([e.learning_rate for e in result.epochs], [3e-3, 3e-3, 0], atol=1e-9)


@pytest.mark.slow
def test_averaged_weights_are_validated_and_kept_and_training_goes_on_from_the_others(
    splits, validated
):
    plain = train(config(epochs=3), splits, on_epoch=ignore)[1]
    _, result = train(config(epochs=3, ema_decay=0.9), splits, on_epoch=ignore)
    kept = result.epochs[result.best_epoch - 1]
    assert result.validation.loss == pytest.approx(kept.val_loss, rel=1e-3)
    for one, other in zip(plain.epochs, result.epochs, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
        assert one.val_loss != pytest.approx(other.val_loss, rel=1e-3)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_cross_entropy_that_forgets_what_is_known(gamma):
    target = np.eye(7, dtype=np.float32)[[0, 1, 2]]
    predicted = np.random.default_rng(0).dirichlet(np.ones(7), 3).astype(np.float32)
    right = predicted[np.arange(3), [0, 1, 2]]
    settings = config(class_weight_power=0, focal_gamma=gamma, label_smoothing=0)
    assert float(loss(settings)(target, predicted)) == pytest.approx(
        float(((1 - right) ** gamma * -np.log(right)).mean()), rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.4},
        {"balanced_sampling": True, "class_weight_power": 0},
        {"focal_gamma": 1.0, "class_weight_power": 0},
        {"clip_norm": 0.0, "ema_decay": 0.99, "optimizer": "sgd", "learning_rate": 0.03},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_is_easy_is_learned_with_every_lever(splits, settings):
    _, result = train(config(epochs=10, **settings), splits, on_epoch=ignore)
    assert result.objective > 0.9


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_weights_can_be_averaged_on_jax():
    node = f"{__file__}::test_what_is_easy_is_learned_with_every_lever[clip_norm]"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", node]
    done = subprocess.run(
        command, env=os.environ | {"KERAS_BACKEND": "jax"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout


class Pruned(RuntimeError):
    """Has the message of an out-of-memory error, but is not one."""


@pytest.mark.slow
def test_what_on_epoch_raises_passes_through_untouched(splits):
    verdict = Pruned("out of memory")

    def prune(_epoch):
        raise verdict

    with pytest.raises(Pruned) as caught:
        train(config(), splits, on_epoch=prune)
    assert caught.value is verdict


@pytest.mark.slow
def test_fewer_images_than_a_batch_are_one_batch(splits):
    _, result = train(config(batch_size=1000, epochs=1), splits, on_epoch=ignore)
    assert result.epochs[0].images_per_second > 0


@pytest.mark.slow
def test_a_loss_that_is_not_finite_loses_the_trial(splits):
    heard = []
    with pytest.raises(TrialFailed, match="epoch 1") as failure:
        train(
            config(optimizer="sgd", learning_rate=10, epochs=50, weight_decay=0.99, warmup=0),
            types.SimpleNamespace(train=broken(splits.train), validation=splits.validation),
            on_epoch=heard.append,
        )
    assert failure.value.kind == "not_finite"
    assert not heard


def broken(split):
    """Images whose pixels are all NaN."""
    lost = split.images * np.float32("nan")
    return types.SimpleNamespace(images=lost, mapped=lost, labels=split.labels)


def test_too_little_memory_loses_the_trial(splits, monkeypatch):
    def fail(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(keras.Model, "fit", fail)
    with pytest.raises(TrialFailed, match="tiny with batch_size=32, image_size=32") as failure:
        train(config(), splits, on_epoch=ignore)
    assert failure.value.kind == "out_of_memory"


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_batch_in_two_parts_teaches_what_it_does_in_one(splits, optimizer):
    settings = config(
        optimizer=optimizer, batch_size=28, ema_decay=0.9, schedule="plateau", warmup=0
    )  # a rate that decays by step would change between the parts
    whole, first = train(settings, splits, on_epoch=ignore)
    halved, second = train(settings, splits, on_epoch=ignore, parts=2)
    pairs = list(zip(whole.get_weights(), halved.get_weights(), strict=True))
    far = [np.abs(one - other).mean() for one, other in pairs]
    assert max(far) < 3e-4, "ten steps of 3e-3 that differ in the order of sums"
    assert second.epochs[-1].loss == pytest.approx(first.epochs[-1].loss, rel=1e-2)


@pytest.mark.slow
def test_the_precision_of_training_outlives_a_trial(splits):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, result = train(config(epochs=1), splits, on_epoch=ignore)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert math.isfinite(result.validation.loss)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 20])
def test_evaluation_does_not_depend_on_the_batch_size(n, splits):
    model = classifier.build(config())
    images, labels = splits.validation.images[:n], splits.validation.labels[:n]
    whole = evaluate(model, images, labels).probabilities
    np.testing.assert_allclose(epochs.predict(model, images[..., None], 8), whole, atol=1e-5)
    assert whole.shape == (n, 7)


@pytest.mark.slow
def test_nothing_is_traced_again_after_the_first_epoch(splits, monkeypatch):
    traced = []
    call = keras.layers.GlobalAveragePooling2D.call

    def counted(self, inputs):
        traced.append(inputs)
        return call(self, inputs)

    monkeypatch.setattr(keras.layers.GlobalAveragePooling2D, "call", counted)
    after: list[int] = []
    train(config(epochs=4), splits, on_epoch=lambda _epoch: after.append(len(traced)))
    assert after[1:] == after[:1] * 3


@pytest.mark.slow
def test_a_trial_leaves_no_graph_behind_that_would_hold_its_weights(splits):
    counts = []
    for seed in (1, 2):
        train(config(epochs=1, ema_decay=0.9, seed=seed), splits, on_epoch=ignore)
        gc.collect()
        counts.append(sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects()))
    assert counts[0] == counts[1]


def test_training_images_stay_in_the_one_copy_that_all_workers_map():
    splits, settings = drawn_splits(), config(epochs=1)
    train(settings, splits, on_epoch=ignore)
    preview(settings, splits.train.mapped, splits.train.labels)
    assert "images" not in vars(splits.train)
    assert splits.train.mapped[np.array([3, 1])].tolist() == splits.train.images[[3, 1]].tolist()


def test_the_first_of_several_calls_of_an_epoch_is_not_clocked(monkeypatch):
    now = iter([0.0, 10.0, 11.0, 12.0, 100.0])
    monkeypatch.setattr(epochs.time, "perf_counter", lambda: next(now))
    told = []
    watch = epochs._Watch(2, 100, lambda *place: told.append(place))
    for n_done in (32, 64, 96, 100):
        watch(n_done, 0.5)
    assert (watch.clock_started, watch.n_clocked) == (10.0, 68)
    assert told == [(2, 32, 100), (2, 64, 100), (2, 96, 100), (2, 100, 100)]
    whole = epochs._Watch(1, 4, None)
    whole(4, 0.5)
    assert (whole.clock_started, whole.n_clocked) == (11.0, 4), "one call is all there is"
