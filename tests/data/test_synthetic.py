from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from fer_search.config import EMOTIONS
from fer_search.data.synthetic import ACTIONS, MOODS, TRAITS, draw

Drawn = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(2000, seed=3)


def test_faces_are_grey_bytes_with_labels(drawn: Drawn) -> None:
    images, labels = drawn
    assert (images.shape, images.dtype) == ((2000, 48, 48), np.uint8)
    assert (labels.shape, labels.dtype) == ((2000,), np.int64)


def test_the_first_faces_do_not_depend_on_how_many_are_drawn(drawn: Drawn) -> None:
    for n in (0, 1, 33):
        images, labels = draw(n, seed=3)
        assert np.array_equal(images, drawn[0][:n])
        assert np.array_equal(labels, drawn[1][:n])


def test_another_seed_draws_other_faces(drawn: Drawn) -> None:
    images, labels = draw(33, seed=4)
    assert not np.array_equal(images, drawn[0][:33])
    assert not np.array_equal(labels, drawn[1][:33])


def test_no_two_faces_are_alike(drawn: Drawn) -> None:
    assert len(np.unique(drawn[0].reshape(2000, -1), axis=0)) == 2000


def test_emotions_are_as_imbalanced_as_in_fer2013(drawn: Drawn) -> None:
    fer2013 = np.array([3995, 436, 4097, 7215, 4965, 4830, 3171])
    shares = np.bincount(drawn[1], minlength=7) / len(drawn[1])
    assert shares == pytest.approx(fer2013 / fer2013.sum(), abs=0.005)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1])
def test_every_emotion_is_among_three_hundred_faces(seed: int) -> None:
    assert np.bincount(draw(300, seed)[1], minlength=7).min() >= 3


def test_images_are_neither_black_nor_white_nor_blank(drawn: Drawn) -> None:
    light = drawn[0].reshape(2000, -1).astype(np.float32)
    assert light.std(axis=1).min() > 8
    assert 90 < light.mean() < 165


def test_single_pixels_tell_something_about_the_emotion_but_not_much(drawn: Drawn) -> None:
    pixels = drawn[0].reshape(2000, -1) / 255 - 0.5
    model = RidgeClassifier(alpha=100).fit(pixels[:1500], drawn[1][:1500])
    assert 0.26 < model.score(pixels[1500:], drawn[1][1500:]) < 0.5


def test_every_emotion_has_a_mood_made_of_known_actions() -> None:
    assert tuple(MOODS) == EMOTIONS
    assert {action for mood in MOODS.values() for variant in mood for action in variant} <= set(
        ACTIONS
    )
    assert not set(ACTIONS) & set(TRAITS)
