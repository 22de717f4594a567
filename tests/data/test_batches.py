from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_search.data.batches import Batches, padded


def numbered(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose pixels are their number, and labels that follow from it."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 4))
    return images, np.arange(n) % 7


def epoch_of(batches: Batches, epoch: int) -> np.ndarray:
    """Numbers of the images of an epoch, in order."""
    batches.start_epoch(epoch)
    return np.concatenate([batches.batch(i)[0][:, 0, 0, 0] for i in range(len(batches))])


@given(n=st.integers(1, 100), batch_size=st.integers(1, 30), epoch=st.integers(0, 5))
def test_every_batch_is_full_and_no_image_comes_twice_in_an_epoch(
    n: int, batch_size: int, epoch: int
) -> None:
    batches = Batches(*numbered(n), batch_size=batch_size, seed=1)
    seen = epoch_of(batches, epoch)
    assert len(seen) == len(set(seen.tolist()))
    assert len(seen) == (n // batch_size * batch_size or n)


def test_a_batch_has_images_with_a_channel_and_their_labels_and_weights() -> None:
    weights = np.linspace(0.5, 2, 7, dtype=np.float32)
    batches = Batches(*numbered(40), batch_size=16, seed=1, class_weights=weights)
    images, targets, sample_weights = batches.batch(1)
    assert (images.shape, images.dtype) == ((16, 4, 4, 1), np.uint8)
    assert (targets.shape, targets.dtype) == ((16, 7), np.float32)
    labels = targets.argmax(axis=1)
    assert labels.tolist() == (images[:, 0, 0, 0] % 7).tolist()
    assert (targets == np.eye(7)[labels]).all()
    assert sample_weights.dtype == np.float32
    assert sample_weights.tolist() == weights[labels].tolist()


def test_without_class_weights_every_image_weighs_one() -> None:
    _, _, sample_weights = Batches(*numbered(8), batch_size=8, seed=1).batch(0)
    assert sample_weights.tolist() == [1] * 8


def labels_of(batches: Batches, epoch: int) -> np.ndarray:
    batches.start_epoch(epoch)
    targets = np.concatenate([batches.batch(i)[1] for i in range(len(batches))])
    return targets.argmax(axis=1)


@given(counts=st.lists(st.integers(1, 40), min_size=7, max_size=7), epoch=st.integers(0, 3))
def test_balanced_epochs_show_every_emotion_equally_often(counts: list[int], epoch: int) -> None:
    labels = np.repeat(np.arange(7), counts)
    images = np.zeros((len(labels), 4, 4), np.uint8)
    batches = Batches(images, labels, batch_size=1, seed=1, balanced=True)
    shown = np.bincount(labels_of(batches, epoch), minlength=7)
    assert shown.sum() == len(labels)
    assert shown.max() - shown.min() <= 1


def test_balanced_epochs_repeat_a_rare_image_evenly_and_reach_every_frequent_one() -> None:
    labels = np.repeat(np.arange(7), [2, 40, 14, 14, 14, 14, 14])
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None], (112, 4, 4))
    batches = Batches(images, labels, batch_size=1, seed=1, balanced=True)
    for epoch in range(3):
        shown = np.bincount(epoch_of(batches, epoch), minlength=112)
        assert shown[:2].tolist() == [8, 8]
    seen = {number for epoch in range(20) for number in epoch_of(batches, epoch).tolist()}
    assert seen == set(range(112))


def test_mixed_images_and_targets_are_blended_in_the_same_shares() -> None:
    labels = np.arange(64) % 7
    images = np.broadcast_to((labels * 40).astype(np.uint8)[:, None, None], (64, 4, 4))
    batches = Batches(images, labels, batch_size=64, seed=1, mixup=0.4)
    mixed, targets, weights = batches.batch(0)
    assert mixed.dtype == np.uint8
    np.testing.assert_allclose(mixed[:, 0, 0, 0], targets @ (np.arange(7) * 40), atol=0.51)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights, 1, rtol=1e-5)
    assert (targets.max(axis=1) < 0.99).any()


def test_a_blend_costs_what_its_parts_cost_at_their_own_weights() -> None:
    class_weights = np.linspace(0.5, 2, 7, dtype=np.float32)
    batches = Batches(*numbered(64), batch_size=64, seed=1, class_weights=class_weights, mixup=0.4)
    _, targets, weights = batches.batch(0)
    shares = weights[:, None] * targets / class_weights
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert np.count_nonzero(shares, axis=1).max() == 2


def test_mixing_can_be_repeated_and_differs_between_epochs() -> None:
    def blends(epoch: int) -> np.ndarray:
        batches = Batches(*numbered(16), batch_size=16, seed=1, mixup=0.4)
        batches.start_epoch(epoch)
        return batches.batch(0)[1]

    assert np.array_equal(blends(1), blends(1))
    assert not np.array_equal(blends(1), blends(2))


def test_too_few_images_make_one_smaller_batch() -> None:
    batches = Batches(*numbered(5), batch_size=64, seed=1)
    assert len(batches) == 1
    assert sorted(epoch_of(batches, 3)) == [0, 1, 2, 3, 4]


def test_epochs_differ_in_order_and_an_epoch_can_be_repeated() -> None:
    batches = Batches(*numbered(64), batch_size=16, seed=1)
    first = epoch_of(batches, 1)
    assert not np.array_equal(epoch_of(batches, 2), first)
    assert np.array_equal(epoch_of(batches, 1), first)
    assert np.array_equal(epoch_of(Batches(*numbered(64), batch_size=16, seed=1), 1), first)
    assert not np.array_equal(epoch_of(Batches(*numbered(64), batch_size=16, seed=2), 1), first)


def test_what_one_epoch_leaves_out_comes_in_another() -> None:
    batches = Batches(*numbered(17), batch_size=16, seed=1)
    seen = {number for epoch in range(9) for number in epoch_of(batches, epoch).tolist()}
    assert seen == set(range(17))


@given(n=st.integers(0, 60), batch_size=st.integers(1, 20))
def test_padded_batches_hold_every_image_once_in_order(n: int, batch_size: int) -> None:
    images, _ = numbered(n)
    pieces = list(padded(images[..., None], batch_size))
    assert all(batch.shape == (batch_size, 4, 4, 1) for batch, _ in pieces)
    real = [batch[:count, 0, 0, 0] for batch, count in pieces]
    assert [number for piece in real for number in piece.tolist()] == list(range(n))


def test_the_last_batch_is_padded_with_its_last_image() -> None:
    *_, (batch, count) = padded(numbered(5)[0][..., None], 4)
    assert count == 1
    assert batch[:, 0, 0, 0].tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("batch_size", [1, 3, 48])
def test_a_batch_is_a_copy_that_may_be_changed(batch_size: int) -> None:
    images, labels = numbered(48)
    batches = Batches(images, labels, batch_size=batch_size, seed=1)
    batches.batch(0)[0][:] = 255
    assert batches.batch(0)[0].max() < 48
