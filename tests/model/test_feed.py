"""Batches on their way to Keras."""

import keras
import numpy as np
import pytest

from fer_search.data.batches import Batches
from fer_search.data.synthetic import draw
from fer_search.model.feed import as_dataset


def given(dataset):
    """The batches on which `fit` would train in one epoch."""
    if keras.backend.backend() == "tensorflow":
        return [tuple(each.numpy() for each in batch) for batch in dataset]
    return [dataset[index] for index in range(len(dataset))]


def test_each_epoch_trains_on_the_batches_that_the_feed_has_then():
    feed = Batches(*draw(70, seed=1), batch_size=32, seed=1)
    feed.start_epoch(1)
    dataset, orders = as_dataset(feed), []
    for epoch in (1, 2):
        feed.start_epoch(epoch)
        batches = given(dataset)
        assert len(batches) == len(feed) == 2
        for index, batch in enumerate(batches):
            for ours, theirs in zip(feed.batch(index), batch, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        orders.append(batches[0][0])
    assert not np.array_equal(*orders)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data is TensorFlow's")
def test_no_epoch_waits_for_the_tuner_of_the_pipeline():
    feed = Batches(*draw(70, seed=1), batch_size=32, seed=1)
    assert as_dataset(feed).options().autotune.enabled is False
