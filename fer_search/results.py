"""Results: the numbers of an epoch, of an evaluation and of a whole training.

Numpy only. One definition of every metric serves validation, test and reports alike; the tests
compare it with scikit-learn.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from fer_search.config import EMOTIONS


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    """Results of one epoch of training; losses in nats per image, rates in [0, 1]."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Mean training loss, with augmentation, label smoothing and weights as trained."""
    accuracy: float
    """Training accuracy on the augmented images; NaN if a custom network does not report it."""
    val_loss: float
    """Plain cross-entropy on validation: no smoothing, no weights."""
    val_accuracy: float
    val_macro_f1: float
    learning_rate: float
    """Learning rate of the head, after the last step of the epoch."""
    images_per_second: float
    """Training throughput, validation excluded; of features if those of frozen stages are kept."""
    ended_at: float = dataclasses.field(default_factory=time.time, compare=False)
    """Seconds since 1970; not compared, so that two epochs can be equal whenever they ran."""

    def metrics(self) -> dict[str, float]:
        """Return the values by their names in MLflow, without epoch, time and unknown values."""
        values = dataclasses.asdict(self)
        del values["epoch"], values["ended_at"]
        return {f"epoch/{name}": value for name, value in values.items() if np.isfinite(value)}


def best_epoch(history: Sequence[EpochMetrics]) -> EpochMetrics:
    """Return the first epoch, of at least one, with the highest validation macro-F1."""
    return max(history, key=lambda epoch: epoch.val_macro_f1)


def training_is_over(history: Sequence[EpochMetrics], epochs: int, patience: int) -> bool:
    """Tell whether training ends after these epochs.

    Args:
        history: All epochs so far, in order.
        epochs: Most epochs to train.
        patience: Number of epochs without a better one after which training ends.
    """
    if not history:
        return False
    last = history[-1].epoch
    return last >= epochs or last - best_epoch(history).epoch >= patience


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Predicted probabilities compared with the labels.

    Args:
        labels: True emotion per image, shape (N,), values in [0, 7), N at least 1.
        probabilities: Shape (N, 7), rows sum to 1.

    Raises:
        ValueError: If the shapes do not match, a label is out of range, or a value is not finite.
    """

    labels: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        n_classes = len(EMOTIONS)
        if self.labels.ndim != 1 or self.probabilities.shape != (len(self.labels), n_classes):
            raise ValueError(
                f"expected labels (N,) and probabilities (N, {n_classes}), "
                f"got {self.labels.shape} and {self.probabilities.shape}"
            )
        if len(self.labels) == 0:
            raise ValueError("expected at least one image to evaluate, got none")
        if self.labels.min() < 0 or self.labels.max() >= n_classes:
            raise ValueError(
                f"expected labels in [0, {n_classes}), got {set(self.labels.tolist())}"
            )
        if not np.isfinite(self.probabilities).all():
            raise ValueError("expected finite probabilities, got NaN or infinity")

    @property
    def predictions(self) -> np.ndarray:
        """Most probable emotion per image, shape (N,); the first one wins a tie."""
        predictions: np.ndarray = self.probabilities.argmax(axis=1)
        return predictions

    @property
    def confusion(self) -> np.ndarray:
        """Counts, shape (7, 7); rows are true emotions, columns predicted ones."""
        n_classes = len(EMOTIONS)
        cells = self.labels.astype(np.int64) * n_classes + self.predictions
        return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return float((self.predictions == self.labels).mean())

    @property
    def loss(self) -> float:
        """Cross-entropy in nats per image; probabilities below 1e-7 count as 1e-7."""
        chosen = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.clip(chosen, 1e-7, 1.0)).mean())

    @property
    def precision(self) -> np.ndarray:
        """Share of an emotion's predictions that are right, shape (7,); 0 if never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """Share of an emotion's images that are found, shape (7,); 0 if it has no image."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall, shape (7,); 0 if neither is defined."""
        return f1_of(self.confusion)

    @property
    def macro_f1(self) -> float:
        """Unweighted mean of `f1`: a rare emotion counts like a common one."""
        return float(self.f1.mean())

    @property
    def balanced_accuracy(self) -> float:
        """Unweighted mean of `recall` over the emotions that have images."""
        present = self.confusion.sum(axis=1) > 0
        return float(self.recall[present].mean())

    def metrics(self, prefix: str, views: int = 1) -> dict[str, float]:
        """Return the headline numbers by their names in MLflow.

        Args:
            prefix: `val` or `test`.
            views: Number of views of each image that were averaged; the names end in it if more
                than 1.
        """
        values = {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
        } | {f"f1_{name}": float(f1) for name, f1 in zip(EMOTIONS, self.f1, strict=True)}
        suffix = f"_views{views}" if views > 1 else ""
        return {f"{prefix}_{name}{suffix}": value for name, value in values.items()}

    def intervals(
        self, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Bootstrap percentile intervals over images (Efron and Tibshirani 1993, chapter 13).

        A resample of images is a multinomial draw from the cells of the confusion matrix. What
        was never right, or always, is so in every resample; it gets the exact binomial interval
        (Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404) over the images that
        count for it. `macro_f1` stays a bootstrap interval, which is too narrow then.

        Args:
            confidence: Share of the resamples that an interval covers, in (0, 1).
            resamples: Number of resamples, at least 1.
            seed: Seed of the draws.

        Returns:
            Lowest and highest value of `accuracy`, `macro_f1` and every `f1_<emotion>`.
        """
        n, cells = len(self.labels), self.confusion.ravel()
        drawn = np.random.default_rng(seed).multinomial(n, cells / n, resamples)
        matrices = drawn.reshape(-1, *self.confusion.shape)
        f1, hits = f1_of(matrices), matrices.diagonal(axis1=1, axis2=2)
        values = {"accuracy": hits.sum(axis=1) / n, "macro_f1": f1.mean(axis=1)}
        values |= {f"f1_{name}": f1[:, i] for i, name in enumerate(EMOTIONS)}
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        ends = {name: np.quantile(drawn, tails) for name, drawn in values.items()}
        hits = self.confusion.diagonal()
        counting = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - hits
        for i, name in enumerate(EMOTIONS):
            if counting[i] and hits[i] in (0, counting[i]):
                share = _exact(hits[i] > 0, counting[i], tails[0])
                ends[f"f1_{name}"] = 2 * share / (1 + share)
        if hits.sum() in (0, n):
            ends["accuracy"] = _exact(hits.sum() > 0, n, tails[0])
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}

    def report(self) -> dict[str, Mapping[str, float]]:
        """Return precision, recall, F1 and images per emotion, and the headline numbers."""
        support = self.confusion.sum(axis=1)
        rows: dict[str, Mapping[str, float]] = {
            name: {
                "precision": float(self.precision[i]),
                "recall": float(self.recall[i]),
                "f1": float(self.f1[i]),
                "images": int(support[i]),
            }
            for i, name in enumerate(EMOTIONS)
        }
        rows["all"] = {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "images": int(support.sum()),
        }
        return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Result of a finished trial."""

    epochs: tuple[EpochMetrics, ...]
    """In order, the first epoch first."""
    best_epoch: int
    """Epoch, from 1, whose weights were kept: the first with the best validation macro-F1."""
    validation: Evaluation
    """The stored model on the validation set, in float32 and without augmentation."""
    views: Mapping[int, Evaluation] = dataclasses.field(default_factory=dict)
    """The same with predictions averaged over views of each image, by number of views."""
    train_seconds: float
    """Wall time of the epochs, validation included."""
    model_parameters: int
    """Number of weights of the stored model."""

    @property
    def objective(self) -> float:
        """What the study maximises: validation macro-F1 of the stored model."""
        return self.validation.macro_f1


def f1_of(confusion: np.ndarray) -> np.ndarray:
    """Compute every emotion's F1 from counts of (true, predicted), shape (…, 7, 7) to (…, 7)."""
    hits = confusion.diagonal(axis1=-2, axis2=-1)
    return _ratio(2 * hits, confusion.sum(axis=-2) + confusion.sum(axis=-1))


def _exact(is_always: bool, n: int, tail: float) -> np.ndarray:
    """Return the interval of a share that was 0, or 1 if `is_always`, among `n`, shape (2,)."""
    far = tail ** (1 / n)
    return np.array([far, 1.0] if is_always else [0.0, 1 - far])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, and 0 where `whole` is 0."""
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return ratio
