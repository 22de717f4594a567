import numpy as np
import pytest

from fer_search.model.training import evaluate
from fer_search.serving.evaluation import evaluate_views
from fer_search.serving.predictor import each_view


@pytest.mark.parametrize(("views", "numbers"), [(1, set()), (2, {2}), (10, {2, 10})])
def test_every_number_of_views_up_to_the_most_is_evaluated(network, views, numbers):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (9, 48, 48), np.uint8), np.arange(9) % 7
    plain = evaluate(network, images, labels)
    found = evaluate_views(network, images, plain, views)
    assert set(found) == numbers
    for number, evaluation in found.items():
        seen = [evaluate(network, view, labels).probabilities for view in each_view(images, number)]
        np.testing.assert_allclose(evaluation.probabilities, np.mean(seen, axis=0), atol=1e-6)
        assert evaluation.labels is plain.labels
    np.testing.assert_array_equal(
        plain.probabilities, evaluate(network, images, labels).probabilities
    )
