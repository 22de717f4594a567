"""What a study cost, out of its trials alone: time, epochs, and what pruning saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fer_search.trial_points import TrialPoint


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What some trials came to."""

    trials: int
    epochs: int
    seconds: float
    """From being taken to being told, summed over the trials; several may run at once."""


def cost_of(points: Sequence[TrialPoint], now: float) -> Cost:
    """Sum up trials; one that runs counts until `now`, in seconds since the epoch."""
    return Cost(
        trials=len(points),
        epochs=sum(point.epochs for point in points),
        seconds=sum(_end(p, now) - p.started for p in points if p.started is not None),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """Epochs that pruned trials were spared."""

    trained: int
    """By the pruned trials."""
    expected: int
    """Of one trial that is not pruned: as many as the completed ones trained on average."""
    saved: int
    """What the pruned trials would have trained on top of it."""


def pruning(points: Sequence[TrialPoint], most: int) -> Pruning:
    """Estimate what pruning saved.

    Args:
        points: All trials of a study.
        most: Epochs a trial may train, taken as the expectation while no trial is complete.
    """
    lengths = [point.epochs for point in points if point.state == "COMPLETE"]
    expected = round(sum(lengths) / len(lengths)) if lengths else most
    pruned = [point.epochs for point in points if point.state == "PRUNED"]
    saved = sum(max(0, expected - epochs) for epochs in pruned)
    return Pruning(trained=sum(pruned), expected=expected, saved=saved)


def seconds_at_work(points: Sequence[TrialPoint], now: float) -> float:
    """Time in which any trial ran, until `now`, in seconds since the epoch."""
    return sum(end - start for start, end in _at_work(points, now))


def best_so_far(points: Sequence[TrialPoint], now: float) -> list[tuple[float, int, float]]:
    """Follow the best value of a study over its time at work.

    Time in which no trial ran, as between a stop and a resume, is left out.

    Args:
        points: All trials.
        now: When running trials are looked at, in seconds since the epoch.

    Returns:
        Seconds at work, finished trials and best value of every moment at which a trial was
        finished and a best value was known, in order.
    """
    finished = [p for p in points if p.state in ("COMPLETE", "PRUNED") and p.ended is not None]
    finished.sort(key=lambda point: (point.ended, point.number))
    spans = _at_work(points, now)
    moments, best = [], float("-inf")
    for n, point in enumerate(finished, start=1):
        if point.state == "COMPLETE" and point.value is not None:
            best = max(best, point.value)
        if best > float("-inf"):
            until = _end(point, now)
            seconds = sum(min(end, until) - start for start, end in spans if start < until)
            moments.append((seconds, n, best))
    return moments


def _end(point: TrialPoint, now: float) -> float:
    return now if point.ended is None else point.ended


def _at_work(points: Sequence[TrialPoint], now: float) -> list[tuple[float, float]]:
    return _united([(p.started, _end(p, now)) for p in points if p.started is not None])


def _united(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join time spans that touch, in order."""
    united: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united
