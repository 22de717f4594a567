"""Two models on the same images: how certain it is that one is better, and their calibration.

Numpy and scipy only; nothing here knows where the models come from.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

from fer_search.config import EMOTIONS
from fer_search.results import Evaluation, f1_of

_BINS = 15
_AT_ONCE = 2_000
"""Resamples drawn at a time: 343 counts each, 8 bytes per count."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """How much higher one macro-F1 is than another, on the same images."""

    gain: float
    lower: float
    """Lower bound of the gain at the requested confidence."""


def macro_f1_gain(
    ours: Evaluation,
    theirs: Evaluation,
    *,
    confidence: float,
    resamples: int = 10_000,
    seed: int = 0,
) -> Gain:
    """Bound a gain in macro-F1 from below, by the paired percentile bootstrap over images.

    A resample of images is a multinomial draw from the counts of (true, ours, theirs), so the
    two models are always compared on the same images. Source: Efron and Tibshirani 1993,
    chapter 13; for paired comparisons Koehn 2004, https://aclanthology.org/W04-3250.

    Args:
        ours: Evaluation of the model that may be better.
        theirs: Evaluation of the other model, on the same labels.
        confidence: One-sided confidence of the bound, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Seed of the draws.

    Raises:
        ValueError: If the labels differ.
    """
    _check_same(ours, theirs)
    n_classes, n = len(EMOTIONS), len(ours.labels)
    cells = (ours.labels * n_classes + ours.predictions) * n_classes + theirs.predictions
    shares = np.bincount(cells, minlength=n_classes**3) / n
    rng = np.random.default_rng(seed)
    gains = []
    for start in range(0, resamples, _AT_ONCE):
        drawn = rng.multinomial(n, shares, min(_AT_ONCE, resamples - start))
        counts = drawn.reshape(-1, n_classes, n_classes, n_classes)
        of_ours, of_theirs = counts.sum(axis=3), counts.sum(axis=2)
        gains.append((f1_of(of_ours) - f1_of(of_theirs)).mean(axis=1))
    lower = float(np.quantile(np.concatenate(gains), 1 - confidence))
    return Gain(gain=ours.macro_f1 - theirs.macro_f1, lower=lower)


def mcnemar(ours: Evaluation, theirs: Evaluation) -> float:
    """Test whether two models are right equally often, by McNemar's exact test.

    Source: McNemar 1947; for classifiers Dietterich 1998, https://doi.org/10.1162/089976698300017197.

    Returns:
        The two-sided p-value; 1 if they are right on the same images.

    Raises:
        ValueError: If the labels differ.
    """
    _check_same(ours, theirs)
    our_hits, their_hits = (each.predictions == each.labels for each in (ours, theirs))
    only_ours = int((our_hits & ~their_hits).sum())
    only_theirs = int((their_hits & ~our_hits).sum())
    if not only_ours + only_theirs:
        return 1.0
    return float(stats.binomtest(only_ours, only_ours + only_theirs).pvalue)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How confident a model is and how often it is right, in confidence bins of equal width."""

    images: np.ndarray
    """Number of images per bin, shape (15,); bin i holds confidences in (i/15, (i+1)/15]."""
    sure: np.ndarray
    """Mean probability of the predicted emotion, shape (15,); 0 in an empty bin."""
    right: np.ndarray
    """Share of correct predictions, shape (15,); 0 in an empty bin."""

    @property
    def error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by images, in [0, 1].

        The expected calibration error, https://proceedings.mlr.press/v70/guo17a.html.
        """
        return float(np.average(np.abs(self.sure - self.right), weights=self.images))


def reliability(evaluation: Evaluation) -> Reliability:
    """Sort predictions into bins by their confidence."""
    sure = evaluation.probabilities.max(axis=1)
    right = evaluation.predictions == evaluation.labels
    bins = np.clip(np.ceil(sure * _BINS).astype(int) - 1, 0, _BINS - 1)
    images = np.bincount(bins, minlength=_BINS)
    sums = (np.bincount(bins, values, minlength=_BINS) for values in (sure, right))
    means = [total / np.maximum(images, 1) for total in sums]
    return Reliability(images=images, sure=means[0], right=means[1])


def _check_same(ours: Evaluation, theirs: Evaluation) -> None:
    if not np.array_equal(ours.labels, theirs.labels):
        raise ValueError("expected two evaluations on the same images, got different labels")
