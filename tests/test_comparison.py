import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables

from fer_search.comparison import macro_f1_gain, mcnemar, reliability
from fer_search.config import EMOTIONS
from fer_search.results import Evaluation

SHARES = np.array([491, 55, 528, 879, 626, 594, 416]) / 3589
"""Shares of the emotions in FER2013's PrivateTest."""


def evaluation(labels, predictions):
    return Evaluation(labels, np.eye(len(EMOTIONS), dtype=np.float32)[predictions])


def guess(rng, labels, skill):
    """Predictions that are right with probability `skill`, otherwise drawn by frequency."""
    others = rng.choice(len(EMOTIONS), len(labels), p=SHARES)
    return np.where(rng.random(len(labels)) < skill, labels, others)


def two_models(seed, skill, other_skill, n=3589):
    """Two models that share half their predictions by design, so that three in four agree, as with
    two networks trained alike."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(EMOTIONS), n, p=SHARES)
    ours = guess(rng, labels, skill)
    theirs = np.where(rng.random(n) < 0.5, ours, guess(rng, labels, other_skill))
    return evaluation(labels, ours), evaluation(labels, theirs)


def test_mcnemar_is_that_of_statsmodels():
    for seed in range(5):
        ours, theirs = two_models(seed, 0.6, 0.57, n=300)
        hits, others = (each.predictions == each.labels for each in (ours, theirs))
        table = [
            [(hits & others).sum(), (hits & ~others).sum()],
            [(~hits & others).sum(), (~hits & ~others).sum()],
        ]
        assert mcnemar(ours, theirs) == pytest.approx(
            contingency_tables.mcnemar(table, exact=True).pvalue, rel=1e-9
        )
    assert mcnemar(ours, ours) == 1


def test_the_bound_is_that_of_scipys_paired_bootstrap():
    ours, theirs = two_models(0, 0.65, 0.62, n=1000)

    def gain(rows):
        of_ours = evaluation(ours.labels[rows], ours.predictions[rows])
        return of_ours.macro_f1 - evaluation(ours.labels[rows], theirs.predictions[rows]).macro_f1

    peer = stats.bootstrap(
        [np.arange(1000)], gain, vectorized=False, method="percentile", n_resamples=1500,
        confidence_level=0.9, rng=1,
    )  # fmt: skip
    found = macro_f1_gain(ours, theirs, confidence=0.95)
    assert found.gain == pytest.approx(ours.macro_f1 - theirs.macro_f1)
    assert found.lower == pytest.approx(
        peer.confidence_interval.low, abs=0.15 * peer.standard_error
    )


def test_the_bound_of_a_model_against_itself_is_nothing():
    ours, _ = two_models(0, 0.6, 0.6, n=500)
    assert macro_f1_gain(ours, ours, confidence=0.95).lower == 0


def share_won(times, skill, other_skill, **options):
    won = 0
    for seed in range(times):
        ours, theirs = two_models(seed, skill, other_skill, **options)
        won += macro_f1_gain(ours, theirs, confidence=0.95, resamples=400).lower > 0
    return won / times


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 3589])
def test_of_two_equal_models_one_wins_at_most_at_the_stated_rate(n):
    trials = 600
    rate = share_won(trials, 0.6, 0.6, n=n)
    assert rate <= stats.binom.ppf(0.999, trials, 0.05) / trials


def test_three_points_are_recognised_on_the_whole_of_privatetest():
    pairs = [two_models(seed, 0.6, 0.525) for seed in range(40)]
    assert np.mean([a.macro_f1 - b.macro_f1 for a, b in pairs]) == pytest.approx(0.03, abs=0.005)
    assert np.mean([a.predictions == b.predictions for a, b in pairs]) == pytest.approx(
        0.75, abs=0.05
    )
    assert share_won(100, 0.6, 0.525) >= 0.8


def test_other_images_cannot_be_compared():
    ours, _ = two_models(0, 0.6, 0.6, n=50)
    theirs, _ = two_models(1, 0.6, 0.6, n=50)
    for compare in (mcnemar, lambda a, b: macro_f1_gain(a, b, confidence=0.95)):
        with pytest.raises(ValueError, match="different labels"):
            compare(ours, theirs)


def test_calibration_error_is_the_distance_between_sureness_and_accuracy():
    n = 1000
    labels = np.zeros(n, int)
    sure = np.full((n, 7), 0.2 / 6)
    sure[: 3 * n // 4, 0] = 0.8
    sure[3 * n // 4 :, 1] = 0.8
    assert reliability(Evaluation(labels, sure)).error == pytest.approx(0.05)
    assert reliability(Evaluation(labels, np.eye(7)[labels])).error == 0
    assert reliability(Evaluation(labels, np.eye(7)[labels + 1])).error == 1


def test_reliability_sorts_images_into_bins_of_sureness():
    sure = np.array([0.2, 0.95, 1.0, 0.95])
    probabilities = np.full((4, 7), ((1 - sure) / 6)[:, None])
    probabilities[:, 3] = sure
    bins = reliability(Evaluation(np.array([3, 3, 3, 0]), probabilities))
    assert bins.images.tolist() == [0, 0, 1, *[0] * 11, 3]
    assert bins.sure[[2, -1]] == pytest.approx([0.2, 2.9 / 3])
    assert bins.right[[2, -1]] == pytest.approx([1, 2 / 3])
    assert bins.error == pytest.approx((0.8 + 0.9) / 4)
