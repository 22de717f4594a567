import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from fer_search.config import EMOTIONS
from fer_search.results import EpochMetrics, Evaluation, training_is_over

N = len(EMOTIONS)


def test_training_is_over_after_the_last_epoch_or_when_nothing_gets_better():
    def is_over(*scores):
        history = [
            EpochMetrics(
                epoch=number, loss=1.0, accuracy=0.1, val_loss=1.0, val_accuracy=0.2,
                val_macro_f1=score, learning_rate=1e-3, images_per_second=9.0,
            )
            for number, score in enumerate(scores, start=1)
        ]  # fmt: skip
        return training_is_over(history, epochs=5, patience=2)

    assert not is_over()
    assert not is_over(0.1, 0.2, 0.2, 0.3)
    assert is_over(0.1, 0.2, 0.2, 0.1)
    assert is_over(0.1, 0.2, 0.3, 0.4, 0.5)


@st.composite
def evaluations(draw):
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, draw(st.integers(1, N)), n)
    probabilities = rng.dirichlet(np.ones(N), n)
    return Evaluation(labels, probabilities)


@given(evaluations())
def test_metrics_agree_with_scikit_learn(evaluation):
    truth, guess = evaluation.labels, evaluation.predictions
    every = {"labels": range(N), "average": None, "zero_division": 0}
    np.testing.assert_allclose(evaluation.f1, metrics.f1_score(truth, guess, **every))
    np.testing.assert_allclose(evaluation.recall, metrics.recall_score(truth, guess, **every))
    np.testing.assert_allclose(evaluation.precision, metrics.precision_score(truth, guess, **every))
    np.testing.assert_array_equal(
        evaluation.confusion, metrics.confusion_matrix(truth, guess, labels=range(N))
    )
    assert evaluation.accuracy == pytest.approx(metrics.accuracy_score(truth, guess))
    assert evaluation.macro_f1 == pytest.approx(
        metrics.f1_score(truth, guess, labels=range(N), average="macro", zero_division=0)
    )
    assert evaluation.loss == pytest.approx(
        metrics.log_loss(truth, evaluation.probabilities, labels=range(N)), rel=1e-4
    )
    present = np.unique(truth)
    assert evaluation.balanced_accuracy == pytest.approx(evaluation.recall[present].mean())


@given(evaluations(), st.randoms())
def test_the_order_of_images_does_not_matter(evaluation, random):
    order = random.sample(range(len(evaluation.labels)), len(evaluation.labels))
    other = Evaluation(evaluation.labels[order], evaluation.probabilities[order])
    assert other.metrics("val") == pytest.approx(evaluation.metrics("val"))


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        pytest.param(np.zeros(0, int), np.zeros((0, N)), "at least one", id="none"),
        pytest.param(np.zeros(2, int), np.zeros((3, N)), "got", id="lengths"),
        pytest.param(np.zeros(2, int), np.zeros((2, 6)), "got", id="classes"),
        pytest.param(np.array([7]), np.zeros((1, N)), "labels in", id="label"),
        pytest.param(np.array([0]), np.full((1, N), np.nan), "finite", id="nan"),
    ],
)
def test_what_does_not_fit_is_refused(labels, probabilities, said):
    with pytest.raises(ValueError, match=said):
        Evaluation(labels, probabilities)


def test_metric_names_are_the_contract():
    names = Evaluation(np.array([0]), np.eye(N)[:1]).metrics("test")
    assert set(names) == {"test_accuracy", "test_macro_f1", "test_balanced_accuracy"} | {
        f"test_f1_{emotion}" for emotion in EMOTIONS
    }


def test_intervals_are_those_of_resampled_images():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, 400)
    right = rng.random(400) < 0.6
    predicted = np.where(right, labels, rng.integers(0, 7, 400))
    evaluation = Evaluation(labels, np.eye(7)[predicted])
    found = evaluation.intervals(resamples=4000)
    again = []
    for _ in range(1000):
        chosen = rng.integers(0, 400, 400)
        again.append(Evaluation(labels[chosen], np.eye(7)[predicted[chosen]]).metrics("x"))
    for name, (low, high) in found.items():
        expected = np.quantile([metrics[f"x_{name}"] for metrics in again], [0.025, 0.975])
        np.testing.assert_allclose((low, high), expected, atol=0.02)
        assert low < evaluation.metrics("x")[f"x_{name}"] < high


def test_an_emotion_without_images_has_an_interval_of_zero():
    evaluation = Evaluation(np.zeros(9, int), np.eye(7)[[0] * 9])
    assert evaluation.intervals()["f1_sad"] == (0, 0)


@pytest.mark.parametrize("right", [0, 9])
def test_what_was_never_or_always_right_is_not_taken_for_certain(right):
    predicted = [0] * right + [1] * (9 - right)
    evaluation = Evaluation(np.zeros(9, int), np.eye(7)[predicted])
    exact = stats.binomtest(right, 9).proportion_ci(method="exact")
    intervals = evaluation.intervals()
    assert intervals["accuracy"] == pytest.approx((exact.low, exact.high))
    f1 = [2 * end / (1 + end) for end in (exact.low, exact.high)]
    assert intervals[f"f1_{EMOTIONS[0]}"] == pytest.approx(f1)
