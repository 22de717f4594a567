from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fer_search.data.stratified import choose

some_labels = st.lists(st.integers(0, 6), min_size=1, max_size=300).map(np.array)
seeds = st.integers(0, 2**32 - 1)


@given(labels=some_labels, n=st.integers(0, 320), seed=seeds)
def test_as_many_are_chosen_as_asked_in_order_and_none_twice(
    labels: np.ndarray, n: int, seed: int
) -> None:
    chosen = choose(labels, n, seed)
    assert len(chosen) == min(n, len(labels))
    assert (np.diff(chosen) > 0).all()
    assert set(chosen.tolist()) <= set(range(len(labels)))


@given(labels=some_labels, n=st.integers(1, 300), seed=seeds)
def test_shares_are_kept_within_one_image_unless_a_rare_label_needs_its_one(
    labels: np.ndarray, n: int, seed: int
) -> None:
    n = min(n, len(labels))
    counts = np.bincount(labels)
    shares = counts * n / len(labels)
    chosen = np.bincount(labels[choose(labels, n, seed)], minlength=len(counts))
    assert (chosen < shares + 1).all()
    if not (chosen[shares < 1] == 1).any():
        assert (chosen > shares - 1).all()


@given(labels=some_labels, seed=seeds)
def test_every_label_keeps_one_as_long_as_there_is_room(labels: np.ndarray, seed: int) -> None:
    n_labels = len(np.unique(labels))
    assert len(np.unique(labels[choose(labels, n_labels, seed)])) == n_labels


def test_fewer_places_than_labels_are_still_obeyed() -> None:
    assert len(choose(np.arange(7).repeat(5), 3, seed=1)) == 3


def test_the_seed_decides_which() -> None:
    labels = np.arange(70) % 7
    assert choose(labels, 20, seed=1).tolist() == choose(labels, 20, seed=1).tolist()
    assert choose(labels, 20, seed=1).tolist() != choose(labels, 20, seed=2).tolist()
