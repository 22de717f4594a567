import dataclasses
from pathlib import Path

import keras
import pytest

from fer_search import config
from fer_search.errors import WeightsError
from fer_search.model.backbones import BACKBONES, check_weights, unfreeze

NAMES = ["tiny", "vgg16", pytest.param("resnet50", marks=pytest.mark.slow)]


def trained(model: keras.Model) -> set[str]:
    return {layer.name for layer in model.layers if layer.trainable_weights}


def test_the_catalogue_holds_the_names_of_the_config():
    assert tuple(BACKBONES) == config.BACKBONES


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
def test_every_backbone_has_as_many_stages_as_the_config_says(backbone):
    assert len(backbone.stages) == config.STAGES


@pytest.mark.parametrize("name", NAMES)
def test_unfreezing_one_stage_more_keeps_the_others_and_ends_with_all(name):
    model = BACKBONES[name].build(config.SMALLEST_IMAGE)
    before: set[str] = set()
    for depth in range(config.STAGES + 1):
        unfreeze(model, name, depth)
        assert trained(model) > before or depth == 0
        before = trained(model)
    assert before == {layer.name for layer in model.layers if layer.weights}


@pytest.mark.parametrize("name", NAMES)
def test_depth_zero_trains_nothing_and_depth_one_the_last_stage(name):
    model = BACKBONES[name].build(config.SMALLEST_IMAGE)
    unfreeze(model, name, 0)
    assert not model.trainable_weights
    unfreeze(model, name, 1)
    last = list(BACKBONES[name].stages)[-1]
    assert {BACKBONES[name].stage_of(layer) for layer in trained(model)} == {last}


def test_a_layer_outside_all_stages_is_a_bug():
    with pytest.raises(ValueError, match="layer block6_conv1 is in 0 of the stages"):
        BACKBONES["vgg16"].stage_of("block6_conv1")


def test_running_statistics_of_batch_norms_follow_within_some_steps():
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.BatchNormalization()])
    dataclasses.replace(BACKBONES["tiny"], network=lambda size, weights: model).build(32)
    assert model.layers[0].momentum == 0.9


@pytest.mark.parametrize("image_size", [config.SMALLEST_IMAGE, config.FACE_SIZE])
@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_builds_from_the_smallest_image_on(name, image_size):
    model = BACKBONES[name].build(image_size)
    assert model.input_shape == (None, image_size, image_size, 3)
    assert len(model.output_shape) == 4


def test_saved_weights_are_read_back(tmp_path):
    saved = BACKBONES["tiny"].build(32)
    saved.save_weights(tmp_path / "tiny.weights.h5")
    check_weights("tiny", str(tmp_path / "tiny.weights.h5"))
    read = BACKBONES["tiny"].build(48, str(tmp_path / "tiny.weights.h5"))
    for one, other in zip(saved.get_weights(), read.get_weights(), strict=True):
        assert (one == other).all()


def test_no_weights_always_fit():
    check_weights("vgg16", "none")


def test_tiny_has_no_imagenet_weights_and_says_so():
    with pytest.raises(WeightsError, match=r"weights=imagenet for tiny: this backbone has no"):
        check_weights("tiny", "imagenet")


def test_a_failed_download_names_the_alternatives(monkeypatch):
    def fail(*_args, **_options):
        raise Exception("URL fetch failure on https://storage.example: Name not known")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(WeightsError, match=r"weights=imagenet for vgg16: .*URL fetch") as refusal:
        check_weights("vgg16", "imagenet")
    for way in ("weights=none", "save_weights('vgg16.weights.h5')", "~/.keras/models"):
        assert way in refusal.value.hint


def _noise(path: Path) -> None:
    path.write_bytes(b"no weights at all")


def _cut_off(path: Path) -> None:
    BACKBONES["tiny"].build(32).save_weights(path)
    path.write_bytes(path.read_bytes()[:5000])


def _fewer_layers(path: Path) -> None:
    model = BACKBONES["tiny"].build(32)
    keras.Model(model.input, model.layers[4].output).save_weights(path)


def _other_shapes(path: Path) -> None:
    layers = [keras.Input((32, 32, 1)), keras.layers.Conv2D(16, 3, use_bias=False)]
    keras.Sequential(layers).save_weights(path)


@pytest.mark.parametrize("write", [_noise, _cut_off, _fewer_layers, _other_shapes])
@pytest.mark.parametrize("file", ["some.weights.h5", "some.h5"])
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, write, file):
    write(tmp_path / "some.weights.h5")
    path = (tmp_path / "some.weights.h5").rename(tmp_path / file)
    with pytest.raises(WeightsError, match=f"weights=.*{file} for tiny: .*{file} does not fit"):
        check_weights("tiny", str(path))


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(WeightsError, match=r"for tiny: .*some\.weights\.h5 is not a file"):
        check_weights("tiny", str(tmp_path / "some.weights.h5"))


@pytest.mark.parametrize("file", ["weights.txt", "."])
def test_a_path_that_cannot_be_weights_is_refused(tmp_path, file):
    (tmp_path / "weights.txt").write_text("nothing")
    with pytest.raises(WeightsError, match="for tiny"):
        check_weights("tiny", str(tmp_path / file))


@pytest.mark.slow
def test_real_weights_fit_their_backbone_and_no_other(shared):
    file = str(shared / "weights" / "vgg16_hed_notop.weights.h5")
    check_weights("vgg16", file)
    for other in ("resnet50", "tiny"):
        with pytest.raises(WeightsError, match=f"does not fit {other}"):
            check_weights(other, file)
