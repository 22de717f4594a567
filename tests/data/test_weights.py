from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from fer_search.data.weights import class_weights
from fer_search.errors import DataError

some_counts = st.lists(st.integers(1, 5000), min_size=7, max_size=7)


def labels_with(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(7), counts)


@given(counts=some_counts, power=st.floats(0, 1))
def test_the_mean_weight_over_the_samples_is_one(counts: list[int], power: float) -> None:
    labels = labels_with(counts)
    weights = class_weights(labels, power)
    assert weights.dtype == np.float32
    assert weights[labels].mean(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@given(counts=some_counts)
def test_power_one_is_what_scikit_learn_calls_balanced(counts: list[int]) -> None:
    labels = labels_with(counts)
    balanced = compute_class_weight("balanced", classes=np.arange(7), y=labels)
    assert class_weights(labels, 1) == pytest.approx(balanced, rel=1e-5)


@given(counts=some_counts)
def test_power_zero_weighs_all_alike(counts: list[int]) -> None:
    assert class_weights(labels_with(counts), 0).tolist() == [1] * 7


@given(counts=some_counts, power=st.floats(0, 1))
def test_a_rarer_emotion_never_weighs_less(counts: list[int], power: float) -> None:
    weights = class_weights(labels_with(counts), power)
    assert (np.diff(weights[np.argsort(counts)]) <= 1e-6).all()


def test_the_weights_of_fer2013_are_those_that_are_published() -> None:
    labels = labels_with([3995, 436, 4097, 7215, 4965, 4830, 3171])
    assert class_weights(labels, 1)[[1, 3]] == pytest.approx([9.41, 0.57], abs=0.01)


def test_an_emotion_without_samples_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="disgust, surprise"):
        class_weights(labels_with([3, 0, 3, 3, 3, 3, 0]), 0.5)
