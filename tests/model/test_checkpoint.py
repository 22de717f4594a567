"""Training that is stopped and resumed ends as if it had not been interrupted."""

import dataclasses
import math
import resource

import keras
import numpy as np
import pytest

from fer_search.model import checkpoint
from fer_search.model.checkpoint import Checkpoint, Progress
from fer_search.model.training import train
from fer_search.results import EpochMetrics
from fer_search.trial_config import Augmentation, TrialConfig


def config(**settings) -> TrialConfig:
    return TrialConfig(
        **{
            "backbone": "tiny",
            "image_size": 32,
            "batch_size": 32,
            "epochs": 5,
            "learning_rate": 3e-3,
        }
        | {"augmentation": Augmentation(rotation=10, flip=True, erasing=0.2), "dropout": 0.2}
        | settings
    )


@pytest.fixture(autouse=True)
def however_short_epochs_are(monkeypatch):
    """Write a checkpoint after every epoch, so that where training resumes is deterministic."""
    monkeypatch.setattr(checkpoint, "_MOST_TIME", math.inf)


class Stop(Exception):
    """Stops training like a kill."""


def stop_after(epoch):
    def on_epoch(metrics):
        if metrics.epoch == epoch:
            raise Stop

    return on_epoch


def timeless(epochs):
    """Epochs without their speed."""
    return [dataclasses.replace(epoch, images_per_second=1) for epoch in epochs]


def place(tmp_path, trial):
    return Checkpoint(tmp_path / "checkpoint.npz", trial.to_params())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        ({"ema_decay": 0.99}, [1, 3]),
        ({"head_warmup": 2, "optimizer": "sgd", "mixup": 0.2}, [2]),
        ({"schedule": "plateau", "learning_rate": 1e-7, "epochs": 8}, [3, 6]),
        ({"unfreeze_depth": 1, "head_warmup": 1, "epochs": 7}, [2, 5]),
        ({"patience": 1, "epochs": 30, "balanced_sampling": True, "class_weight_power": 0}, [1]),
    ],
    ids=["averaged", "head first", "plateau", "features", "early stop"],
)
def test_a_stopped_training_ends_as_an_undisturbed_one(splits, tmp_path, settings, stops):
    trial = config(**settings)
    heard: list = []
    undisturbed, expected = train(trial, splits, on_epoch=heard.append)
    for epoch in stops:
        with pytest.raises(Stop):
            train(trial, splits, on_epoch=stop_after(epoch), checkpoint=place(tmp_path, trial))
    told: list = []
    model, result = train(trial, splits, on_epoch=told.append, checkpoint=place(tmp_path, trial))
    assert timeless(result.epochs) == timeless(expected.epochs)
    assert timeless(told) == timeless(heard), "also those before the stop"
    assert result.best_epoch == expected.best_epoch
    np.testing.assert_array_equal(
        result.validation.probabilities, expected.validation.probabilities
    )
    for got, wanted in zip(model.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow
def test_what_a_stop_in_the_middle_of_an_epoch_had_begun_is_forgotten(splits, tmp_path):
    def stop(epoch, batch, _n):
        if (epoch, batch) == (3, 2):
            raise Stop

    trial = config(epochs=4)
    _, expected = train(trial, splits, on_epoch=lambda _: None)
    with pytest.raises(Stop):
        train(
            trial, splits, on_epoch=lambda _: None, on_batch=stop,
            checkpoint=place(tmp_path, trial),
        )  # fmt: skip
    _, result = train(trial, splits, on_epoch=lambda _: None, checkpoint=place(tmp_path, trial))
    assert timeless(result.epochs) == timeless(expected.epochs)


@pytest.fixture
def network():
    """A network and its optimizer after an epoch, and the progress to checkpoint."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(), "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    epoch = EpochMetrics(
        epoch=1, loss=0.1, accuracy=math.nan, val_loss=1 / 3, val_accuracy=0.5, val_macro_f1=0.4,
        learning_rate=1e-3, images_per_second=7,
    )  # fmt: skip
    progress = Progress(phase=1, changed=1, seconds=2.5)
    progress.add(epoch, model.get_weights())
    return model, progress


def test_all_that_was_written_is_read(network, tmp_path):
    model, progress = network
    Checkpoint(tmp_path / "c.npz", {"a": (1, "x")}).write(progress, model, model)
    saved = Checkpoint(tmp_path / "c.npz", {"a": [1, "x"]}).read(model)
    assert repr(saved.progress) == repr(progress), "as text, because NaN is not itself"
    groups = [(saved.network, model.variables), (saved.optimizer, model.optimizer.variables)]
    for kept, variables in groups:
        assert len(kept) == len(variables) > 2
        for one, other in zip(kept, variables, strict=True):
            np.testing.assert_array_equal(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]


def test_the_scale_of_a_float16_loss_is_kept(network, tmp_path):
    model, progress = network

    def compiled():
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse")
        model.optimizer.build(model.trainable_variables)
        return model.optimizer.dynamic_scale

    compiled().assign(8.0)
    Checkpoint(tmp_path / "c.npz", {}).write(progress, model, model)
    fresh = compiled()
    assert float(fresh) != 8.0
    Checkpoint(tmp_path / "c.npz", {}).read(model).restore(model, model)
    assert float(fresh) == 8.0


@pytest.mark.parametrize(
    "harm", ["none there", "cut", "flipped", "text", "other parameters", "other network"]
)
def test_a_checkpoint_of_no_use_is_said_and_not_used(network, tmp_path, caplog, harm):
    model, progress = network
    file = tmp_path / "c.npz"
    Checkpoint(file, {"a": 1}).write(progress, model, model)
    content = bytearray(file.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    elif harm == "flipped":
        content[len(content) // 2] ^= 1
    elif harm == "text":
        content = bytearray(b"no archive")
    file.write_bytes(content)
    if harm == "none there":
        file.unlink()
    place = Checkpoint(file, {"a": 2 if harm == "other parameters" else 1})
    other = keras.Sequential([keras.Input((4,)), *model.layers[:1], keras.layers.Dense(2)])
    assert place.read(other if harm == "other network" else model) is None
    assert ("starts over" in caplog.text) == (harm != "none there")


def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before(network, tmp_path, caplog):
    model, progress = network
    Checkpoint(tmp_path / "c.npz", {}).write(progress, model, model)
    before = (tmp_path / "c.npz").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        Checkpoint(tmp_path / "c.npz", {}).write(progress, model, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "no checkpoint of epoch 1" in caplog.text
    assert (tmp_path / "c.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_writing_takes_a_small_part_of_the_time(network, tmp_path, monkeypatch):
    model, progress = network
    monkeypatch.setattr(checkpoint, "_MOST_TIME", 1e-9)
    place = Checkpoint(tmp_path / "c.npz", {})
    place.write(progress, model, model)
    (tmp_path / "c.npz").unlink()
    place.write(progress, model, model)
    assert not list(tmp_path.iterdir())
    place.read(model)
    place.write(progress, model, model)
    assert list(tmp_path.iterdir()), "another attempt begins at once"
