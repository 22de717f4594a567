import keras
import numpy as np
import pytest

from fer_search.model import augmentation
from fer_search.model.augmentation import AUGMENTATIONS
from fer_search.trial_config import Augmentation

STRENGTHS = {
    "rotation": 20,
    "shift": 0.2,
    "zoom": 0.2,
    "flip": True,
    "brightness": 0.4,
    "contrast": 0.4,
    "erasing": 1,
}


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 48, 48, 1)).astype(np.float32)


def apply(kinds: dict[str, float], faces: np.ndarray, *, training: bool = True, seed: int = 3):
    varied = faces.astype(np.float32)
    for layer in augmentation.build(Augmentation(**kinds), seed):
        varied = layer(varied, training=training)
    return keras.ops.convert_to_numpy(varied)


def test_the_table_holds_the_kinds_of_the_config():
    assert tuple(AUGMENTATIONS) == tuple(Augmentation.model_fields)


def test_no_strength_is_no_layer():
    assert augmentation.build(Augmentation(), seed=0) == []


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_a_kind_varies_the_image_and_keeps_its_shape_and_range(kind, faces):
    varied = apply({kind: STRENGTHS[kind]}, faces)
    assert (varied != faces).any()
    assert varied.shape == faces.shape
    assert varied.dtype == np.float32
    assert varied.min() >= 0
    assert varied.max() <= 255


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_a_kind_does_nothing_at_inference(kind, faces):
    assert (apply({kind: STRENGTHS[kind]}, faces, training=False) == faces).all()


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_a_kind_computes_in_float32_under_every_policy(kind, faces):
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert apply({kind: STRENGTHS[kind]}, faces).dtype == np.float32


def test_the_seed_decides(faces):
    assert (apply(STRENGTHS, faces, seed=1) == apply(STRENGTHS, faces, seed=1)).all()
    assert (apply(STRENGTHS, faces, seed=1) != apply(STRENGTHS, faces, seed=2)).any()


def test_kinds_draw_apart_from_each_other():
    layers = augmentation.build(Augmentation(**STRENGTHS), seed=0)
    assert len({layer.seed for layer in layers}) == len(AUGMENTATIONS)


def test_contrast_falls_as_well_as_rises(faces):
    spread = apply({"contrast": 0.5}, faces // 4 + 96).std(axis=(1, 2, 3))
    before = (faces // 4 + 96).std(axis=(1, 2, 3))
    assert (spread < before).any()
    assert (spread > before).any()


def test_erasing_strikes_as_often_as_asked():
    grey = np.full((400, 48, 48, 1), 77, np.uint8)
    erased = (apply({"erasing": 0.5}, grey) != grey).any(axis=(1, 2, 3))
    assert 0.4 < erased.mean() < 0.6


def test_zoom_keeps_the_aspect():
    square = np.zeros((16, 48, 48, 1), np.uint8)
    square[:, 16:32, 16:32] = 255
    zoomed = apply({"zoom": 0.3}, square)
    heights, widths = zoomed[:, :, 24, 0].sum(axis=1), zoomed[:, 24, :, 0].sum(axis=1)
    np.testing.assert_allclose(heights, widths, rtol=1e-3)
    assert np.ptp(heights) > 255


def test_what_comes_in_from_outside_is_the_edge():
    grey = np.full((8, 48, 48, 1), 120, np.uint8)
    np.testing.assert_allclose(apply({"rotation": 30, "shift": 0.3, "zoom": 0.3}, grey), 120, 1e-4)
