import gc
import itertools
import weakref

import keras
import numpy as np
import pytest

from fer_search.data.batches import Batches
from fer_search.model import augmentation, classifier, features
from fer_search.model.training import fresh_network, train
from fer_search.trial_config import Augmentation, TrialConfig

VARIED = Augmentation(shift=0.1, flip=True)


def config(**settings) -> TrialConfig:
    fixed = {
        "backbone": "tiny",
        "image_size": 32,
        "unfreeze_depth": 1,
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "dropout": 0,
        "seed": 5,
    }
    return TrialConfig(**(fixed | settings))


def trainer_of(settings, splits, model=None):
    train = splits.train
    batches = Batches(train.images, train.labels, batch_size=32, seed=settings.seed)
    model = model or classifier.build(settings)
    trainer = features.trainer(
        model, settings, batches, train, splits.validation, n_epochs=settings.epochs
    )
    return model, trainer


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_the_parts_are_the_network(splits, depth):
    settings = config(unfreeze_depth=depth)
    model = classifier.build(settings)
    model.layers[-1].set_weights([np.random.default_rng(0).normal(size=(128, 7)), np.zeros(7)])
    faces = splits.validation.images[:8, ..., None]
    frozen, training = classifier.cut(model, settings)
    probabilities = training.predict_on_batch(frozen.predict_on_batch(faces))
    expected = model.predict_on_batch(faces)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("backbone", ["vgg16", "resnet50"])
@pytest.mark.parametrize("depth", [0, 1])
def test_the_training_part_has_all_that_trains(backbone, depth):
    settings = config(backbone=backbone, image_size=48, unfreeze_depth=depth, head_units=4)
    model = classifier.build(settings)
    frozen, part = classifier.cut(model, settings)
    assert [w.path for w in part.trainable_weights] == [w.path for w in model.trainable_weights]
    assert not frozen.trainable_weights


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 1])
def test_without_augmentation_training_is_the_same_as_in_whole(splits, monkeypatch, depth):
    settings = config(unfreeze_depth=depth, epochs=3)
    results = []
    for deepest in (depth, -1):
        monkeypatch.setattr(features, "DEEPEST", deepest)
        results.append(train(settings, splits, on_epoch=lambda _: None))
    (model, by_features), (_, in_whole) = results
    for one, other in zip(by_features.epochs, in_whole.epochs, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
        assert one.val_loss == pytest.approx(other.val_loss, rel=1e-3)
    assert by_features.epochs[-1].loss < by_features.epochs[0].loss
    fresh = fresh_network(settings, splits.train)
    before, after = (classifier.cut(each, settings)[0].get_weights() for each in (fresh, model))
    for weight, same in zip(before, after, strict=True):
        np.testing.assert_array_equal(weight, same)


def epoch_of(trainer, epoch):
    trainer.batches.start_epoch(epoch)
    return [trainer.batches.batch(index) for index in range(len(trainer.batches))]


def test_each_of_the_first_epochs_brings_a_variant_and_later_ones_mix_them(splits):
    _, trainer = trainer_of(config(augmentation=VARIED), splits)
    variants = []
    for epoch in range(1, features.VARIANTS + 1):
        epoch_of(trainer, epoch)
        variants.append(trainer.batches._features[-1])
    assert all((one != other).any() for one, other in itertools.pairwise(variants))
    mixed = np.concatenate([inputs for inputs, _, _ in epoch_of(trainer, 9)])
    chosen = trainer.batches._batches._order[: len(mixed)]
    is_from = np.stack([(v[chosen] == mixed).all(axis=(1, 2, 3)) for v in variants])
    assert is_from.any(axis=0).all()
    assert (is_from.sum(axis=1) > len(mixed) / 8).all()
    assert len(trainer.batches._features) == features.VARIANTS


def test_who_goes_on_after_a_stop_gets_the_same_features(splits):
    settings = config(augmentation=VARIED)
    model, trainer = trainer_of(settings, splits)
    for epoch in range(1, 4):
        before = epoch_of(trainer, epoch)
    _, again = trainer_of(settings, splits, model)
    for one, other in zip(before, epoch_of(again, 3), strict=True):
        for each, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(each, same)


@pytest.mark.parametrize(
    "settings",
    [
        {"unfreeze_depth": 2},
        {"mixup": 0.2},
        {"balanced_sampling": True, "class_weight_power": 0.0},
        {"epochs": features.VARIANTS, "augmentation": VARIED},
        {"backbone": "resnet50", "batch_norm": "trainable"},
    ],
)
def test_what_changes_in_every_epoch_is_computed_in_whole(splits, settings):
    model, trainer = trainer_of(config(**settings), splits)
    assert trainer.model is model
    assert trainer.validation.shape == (len(splits.validation.labels), 48, 48, 1)


def test_features_that_would_not_fit_into_memory_are_not_kept(splits, monkeypatch):
    monkeypatch.setattr(features, "MOST_BYTES", 1000)
    model, trainer = trainer_of(config(), splits)
    assert trainer.model is model


def test_features_are_kept_in_the_precision_of_training(splits):
    with classifier.dtype_policy("mixed_bfloat16"):
        _, trainer = trainer_of(config(), splits)
    assert trainer.validation.dtype.name == "bfloat16"
    assert keras.backend.standardize_dtype(trainer.model.input.dtype) == "bfloat16"


KINDS = ["rotation", "shift", "zoom", "brightness", "contrast", "erasing"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_is_what_the_network_would_have_seen(splits, kind):
    """Test every kind alone, because each may be the first to see the pixels."""
    settings = config(augmentation=Augmentation(**{kind: 0.3}), unfreeze_depth=0)
    model, trainer = trainer_of(settings, splits)
    trainer.batches.start_epoch(1)
    images = splits.train.images[:64]  # the first batch of features
    x = images[..., None].astype(np.float32)
    for layer in augmentation.build(settings.augmentation, settings.seed):
        x = layer(x, training=True)
    expected = classifier.cut(model, settings)[0].predict_on_batch(x)
    np.testing.assert_allclose(trainer.batches._features[0][:64], expected, rtol=1e-4, atol=1e-5)


def test_without_augmentation_there_is_one_variant(splits):
    _, trainer = trainer_of(config(), splits)
    for epoch in (1, 2, 5):
        epoch_of(trainer, epoch)
    assert len(trainer.batches._features) == 1


@pytest.mark.slow
def test_features_go_with_their_trial(splits, monkeypatch):
    kept = []
    of_class = features._Variants.__init__

    def seen(self, *arguments):
        of_class(self, *arguments)
        kept.append(weakref.ref(self))

    monkeypatch.setattr(features._Variants, "__init__", seen)
    train(config(epochs=3), splits, on_epoch=lambda _: None)
    gc.collect()
    assert [each() for each in kept] == [None]
