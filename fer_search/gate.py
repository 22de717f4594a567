"""The gate in front of the alias `champion`: measurements in, a decision with reasons out.

Pure: no store, no model, no clock, so that every rule can be tested by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from fer_search.command_config import PromotionConfig
from fer_search.comparison import macro_f1_gain, mcnemar, reliability
from fer_search.config import EMOTIONS
from fer_search.results import Evaluation

GUESSING = 1 / len(EMOTIONS)
"""Macro-F1 of guessing each emotion as often as it occurs: its F1 is then its share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a model on the test images of a promotion."""

    evaluation: Evaluation
    megabytes: float
    """Size of the stored Keras model; a megabyte is 10^6 bytes."""
    milliseconds: float
    """Median time for one image by itself, on the machine that decides."""

    def numbers(self) -> dict[str, float]:
        """Return the numbers that are compared, by name."""
        return self.evaluation.metrics("test") | {
            "calibration_error": reliability(self.evaluation).error,
            "megabytes": self.megabytes,
            "milliseconds": self.milliseconds,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One rule of the gate, applied."""

    passed: bool
    said: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """The gate's decision."""

    checks: tuple[Check, ...]
    comparison: dict[str, float]
    """`gain_macro_f1`, `gain_macro_f1_lower` and `mcnemar_p`; empty without a champion."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate may become the champion: every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """What the failed checks say, or all of them if none failed."""
        return [check.said for check in self.checks if check.passed == self.promoted]


def decide(candidate: Measured, champion: Measured | None, policy: PromotionConfig) -> Decision:
    """Decide whether a candidate may replace the champion.

    Args:
        candidate: The candidate, measured on the test set.
        champion: The champion, measured on the same images; None if there is none, in which case
            only floors and limits apply.
        policy: The requirements of the promotion.
    """
    checks, comparison = list(_floors_and_limits(candidate, policy)), {}
    if champion:
        gain = macro_f1_gain(
            candidate.evaluation, champion.evaluation, confidence=policy.confidence
        )
        p = mcnemar(candidate.evaluation, champion.evaluation)
        comparison = {
            "gain_macro_f1": gain.gain,
            "gain_macro_f1_lower": gain.lower,
            "mcnemar_p": p,
        }
        won = Check(
            gain.lower > policy.min_gain,
            f"macro-F1 {_signed(gain.gain)} against the champion, at least "
            f"{_signed(gain.lower)} with {100 * policy.confidence:g} % confidence "
            f"(needed: more than {policy.min_gain:g})",
        )
        checks = [won, _accuracy(candidate, champion, p, policy), *checks]
        checks += _drops(candidate.evaluation, champion.evaluation, policy)
    return Decision(checks=tuple(checks), comparison=comparison)


def doubts_of_the_first(evaluation: Evaluation) -> list[str]:
    """List the reservations about a model that becomes the champion without a contest."""
    doubts = ["there is no champion to compare it with, so only floors and limits apply"]
    lower, upper = evaluation.intervals()["macro_f1"]
    if lower <= GUESSING:
        doubts.append(
            f"its macro-F1 may be no better than guessing, {GUESSING:.3f}: it is between "
            f"{lower:.3f} and {upper:.3f} with 95 % confidence"
        )
    return doubts


def _signed(change: float) -> str:
    """Format a change with four decimals, and with more where these would hide it."""
    return f"{change:+.4f}" if not change or abs(change) >= 5e-5 else f"{change:+.1g}"


def _accuracy(candidate: Measured, champion: Measured, p: float, policy: PromotionConfig) -> Check:
    """Check that a better macro-F1 does not come at the price of a significantly lower accuracy."""
    change = candidate.evaluation.accuracy - champion.evaluation.accuracy
    return Check(
        change >= 0 or p > 1 - policy.confidence,
        f"accuracy {change:+.4f} against the champion (McNemar's p {p:.2g})",
    )


def _drops(candidate: Evaluation, champion: Evaluation, policy: PromotionConfig) -> Iterator[Check]:
    changes = candidate.f1 - champion.f1
    for name, change in zip(EMOTIONS, changes, strict=True):
        if change < -policy.max_f1_drop:
            yield Check(
                False, f"F1 of {name} {change:+.4f} (allowed: {-policy.max_f1_drop:+g} at most)"
            )
    if changes.min() >= -policy.max_f1_drop:
        worst = EMOTIONS[changes.argmin()]
        yield Check(True, f"no emotion drops too far; worst: {worst}, F1 {changes.min():+.4f}")


def _floors_and_limits(candidate: Measured, policy: PromotionConfig) -> Iterator[Check]:
    evaluation = candidate.evaluation
    for name, f1 in zip(EMOTIONS, evaluation.f1, strict=True):
        if f1 < policy.min_f1:
            yield Check(False, f"F1 of {name} {f1:.4f} (needed: {policy.min_f1:g})")
    yield Check(
        evaluation.macro_f1 >= policy.min_macro_f1,
        f"macro-F1 {evaluation.macro_f1:.4f} (needed: {policy.min_macro_f1:g})",
    )
    limits = {
        "calibration error": (reliability(evaluation).error, policy.max_calibration_error),
        "megabytes": (candidate.megabytes, policy.max_megabytes),
        "milliseconds per image": (candidate.milliseconds, policy.max_milliseconds),
    }
    for name, (value, limit) in limits.items():
        if limit:
            yield Check(value <= limit, f"{name} {value:.3g} (allowed: {limit:g})")
