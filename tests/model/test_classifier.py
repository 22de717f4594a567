import subprocess
import sys

import keras
import numpy as np
import pytest

from fer_search.config import POOLINGS
from fer_search.model import classifier
from fer_search.model.backbones import BACKBONES
from fer_search.trial_config import Augmentation, TrialConfig

NAMES = ["tiny", "vgg16", pytest.param("resnet50", marks=pytest.mark.slow)]
ALL_KINDS = Augmentation(
    rotation=10, shift=0.1, zoom=0.1, flip=True, brightness=0.1, contrast=0.1, erasing=0.5
)


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1)).astype(np.uint8)


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")


def config(**settings) -> TrialConfig:
    return TrialConfig(**{"backbone": "tiny", "augmentation": ALL_KINDS} | settings)


@pytest.mark.parametrize("image_size", [32, 48, 64])
def test_faces_become_probabilities_at_every_size(image_size, faces):
    probabilities = classifier.build(config(image_size=image_size)).predict_on_batch(faces)
    assert probabilities.shape == (5, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.usefixtures("mixed_precision")
def test_probabilities_are_float32_in_mixed_precision(faces):
    assert classifier.build(config()).predict_on_batch(faces).dtype == np.float32


def test_bytes_and_floats_are_the_same_image(faces):
    model = classifier.build(config())
    as_bytes = model.predict_on_batch(faces)
    as_floats = model.predict_on_batch(faces.astype(np.float32))
    np.testing.assert_allclose(as_bytes, as_floats, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_grey_face_is_preprocessed_as_keras_does_it(name, faces):
    model = classifier.build(TrialConfig(backbone=name))
    ours = keras.Model(model.input, model.get_layer("preprocessing").output)
    module = getattr(keras.applications, name)
    expected = module.preprocess_input(np.repeat(faces, 3, axis=-1).astype(np.float32))
    np.testing.assert_allclose(ours.predict_on_batch(faces), expected, atol=1e-4)


@pytest.mark.parametrize("head_units", [0, 16])
def test_the_head_has_a_hidden_layer_where_it_was_asked_for(head_units):
    names = {layer.name for layer in classifier.build(config(head_units=head_units)).layers}
    assert ("hidden" in names) == bool(head_units)


def test_the_table_of_poolings_holds_the_names_of_the_config():
    assert tuple(classifier.POOLINGS) == POOLINGS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("avg", lambda maps: maps.mean(axis=(1, 2))),
        ("max", lambda maps: maps.max(axis=(1, 2))),
        ("flatten", lambda maps: maps.reshape(len(maps), -1)),
    ],
)
def test_feature_maps_are_pooled(name, expected, faces):
    model = classifier.build(config(image_size=96, pooling=name))
    layer = model.get_layer("pooling")
    both = keras.Model(model.input, [layer.input, layer.output])
    maps, pooled = both.predict_on_batch(faces)
    assert maps.shape[1:3] == (3, 3)
    np.testing.assert_allclose(pooled, expected(maps), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_norm", "learning"),
    [("stage", {"conv5"}), ("frozen", set()), ("trainable", set(BACKBONES["resnet50"].stages))],
)
def test_batch_norm_learns_in_the_stages_that_it_shall(batch_norm, learning, faces):
    settings = TrialConfig(backbone="resnet50", unfreeze_depth=1, batch_norm=batch_norm)
    model = classifier.build(settings)
    backbone = model.get_layer("resnet50")
    norms = [layer for layer in backbone.layers if hasattr(layer, "moving_mean")]
    before = [np.asarray(norm.moving_mean) for norm in norms]
    model(faces, training=True)
    moved = [(np.asarray(n.moving_mean) != b).any() for n, b in zip(norms, before, strict=True)]
    stage = BACKBONES["resnet50"].stage_of
    assert {stage(n.name) for n, has in zip(norms, moved, strict=True) if has} == learning
    assert {stage(n.name) for n in norms if n.trainable} == learning
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {stage(layer.name) for layer in convolutions if layer.trainable} == {"conv5"}


def test_the_backbone_is_frozen_and_thawed_as_the_trial_says():
    settings = config(unfreeze_depth=2)
    model = classifier.build(settings)
    whole = [weight.path for weight in model.trainable_weights]
    classifier.freeze(model, settings, head_only=True)
    assert not model.get_layer("tiny").trainable_weights
    assert {weight.path.split("/")[0] for weight in model.trainable_weights} == {"norm", "emotions"}
    classifier.freeze(model, settings)
    assert [weight.path for weight in model.trainable_weights] == whole


@pytest.mark.parametrize("depth", [0, 2, 5])
def test_the_first_stages_are_frozen_and_the_head_never_is(depth):
    model = classifier.build(config(unfreeze_depth=depth))
    stages = {weight.path.split("/")[0] for weight in model.trainable_weights}
    stages &= {f"stage{i}_conv" for i in range(1, 6)}
    assert stages == {f"stage{i}_conv" for i in range(6 - depth, 6)}
    assert model.get_layer("emotions").trainable_weights


def test_pretrained_weights_are_in_the_backbone(tmp_path):
    saved = BACKBONES["tiny"].build(48)
    saved.save_weights(tmp_path / "tiny.weights.h5")
    model = classifier.build(config(weights=str(tmp_path / "tiny.weights.h5")))
    for one, other in zip(saved.get_weights(), model.get_layer("tiny").get_weights(), strict=True):
        assert (one == other).all()


def test_names_do_not_depend_on_what_was_built_before():
    names = [[layer.name for layer in classifier.build(config()).layers] for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_for_inference_predicts_alike(name, faces):
    settings = config(backbone=name, image_size=32, unfreeze_depth=1)
    model = classifier.build(settings)
    copy = classifier.inference_copy(model, settings)
    np.testing.assert_allclose(
        copy.predict_on_batch(faces), model.predict_on_batch(faces), atol=1e-5
    )


@pytest.mark.usefixtures("mixed_precision")
def test_the_copy_for_inference_is_float32_without_augmentation(faces):
    model = classifier.build(config())
    copy = classifier.inference_copy(model, config())
    assert {layer.compute_dtype for layer in copy._flatten_layers()} == {"float32"}
    assert not {layer.name for layer in copy.layers} & set(Augmentation.model_fields)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    np.testing.assert_allclose(
        copy.predict_on_batch(faces), model.predict_on_batch(faces), atol=0.05
    )


def test_the_copy_does_not_share_weights_with_the_network(faces):
    model = classifier.build(config())
    copy = classifier.inference_copy(model, config())
    before = copy.predict_on_batch(faces)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    assert (copy.predict_on_batch(faces) == before).all()


OPEN_ELSEWHERE = """
import sys, numpy as np, keras
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
np.save(sys.argv[3], model.predict_on_batch(np.load(sys.argv[2])))
assert not [name for name in sys.modules if name.startswith("fer_search")]
"""


@pytest.mark.slow
def test_the_stored_model_opens_without_this_package(tmp_path, faces):
    copy = classifier.inference_copy(classifier.build(config(image_size=64)), config(image_size=64))
    paths = [str(tmp_path / name) for name in ("model.keras", "faces.npy", "found.npy")]
    copy.save(paths[0])
    np.save(paths[1], faces)
    subprocess.run([sys.executable, "-c", OPEN_ELSEWHERE, *paths], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(paths[2]), copy.predict_on_batch(faces), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_saves_and_loads(name, tmp_path, faces):
    settings = config(backbone=name, head_units=8)
    copy = classifier.inference_copy(classifier.build(settings), settings)
    copy.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(
        loaded.predict_on_batch(faces), copy.predict_on_batch(faces), atol=1e-6
    )


def test_calibrated_features_begin_standardised():
    faces = np.random.default_rng(0).integers(0, 256, (64, 48, 48), dtype=np.uint8)
    model = classifier.build(TrialConfig(backbone="tiny"))
    classifier.calibrate(model, faces)
    norm = keras.Model(model.input, model.get_layer("norm").output)
    features = norm.predict(faces[..., None], verbose=0)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    assert np.median(features.std(axis=0)) == pytest.approx(1, abs=1e-2)
    assert features.std(axis=0).max() < 1.01


def test_an_untrained_network_knows_nothing():
    model = classifier.build(TrialConfig(backbone="tiny"))
    probabilities = model.predict(np.zeros((1, 48, 48, 1)), verbose=0)
    np.testing.assert_allclose(probabilities, 1 / 7, rtol=1e-3)
