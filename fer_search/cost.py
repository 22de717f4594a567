"""The cost of a study, from its trials alone: time, epochs, and what pruning saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fer_search.trials import TrialSummary


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """The total cost of some trials."""

    trials: int
    epochs: int
    seconds: float
    """Time from start to end, summed over the trials; several may run at once."""


def cost_of(trials: Sequence[TrialSummary], now: float) -> Cost:
    """Add up the cost of trials; running ones count until `now`, in seconds since the epoch."""
    return Cost(
        trials=len(trials),
        epochs=sum(trial.epochs for trial in trials),
        seconds=sum(end - start for start, end in _spans(trials, now)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """Epochs that pruned trials were spared."""

    trained: int
    """Epochs that the pruned trials trained."""
    expected: int
    """Mean epochs of a completed trial."""
    saved: int
    """Epochs that the pruned trials would have trained in addition."""


def pruning(trials: Sequence[TrialSummary], most: int) -> Pruning:
    """Estimate what pruning saved.

    Args:
        trials: All trials of a study.
        most: Most epochs a trial may train, the expected number while no trial is complete.
    """
    lengths = [trial.epochs for trial in trials if trial.state == "COMPLETE"]
    expected = round(sum(lengths) / len(lengths)) if lengths else most
    pruned = [trial.epochs for trial in trials if trial.state == "PRUNED"]
    saved = sum(max(0, expected - epochs) for epochs in pruned)
    return Pruning(trained=sum(pruned), expected=expected, saved=saved)


def seconds_at_work(trials: Sequence[TrialSummary], now: float) -> float:
    """Add up the time in which any trial ran, until `now`, in seconds since the epoch."""
    return sum(end - start for start, end in _at_work(trials, now))


def best_so_far(trials: Sequence[TrialSummary], now: float) -> list[tuple[float, int, float]]:
    """Follow the best value of a study over its time at work.

    Time in which no trial ran, for example between a stop and a resume, is left out.

    Args:
        trials: All trials of the study.
        now: Time until which running trials count, in seconds since the epoch.

    Returns:
        Seconds at work, number of finished trials and best value, for each finished trial in order
        of time, from the first completed one on.
    """
    finished = [
        trial
        for trial in trials
        if trial.state in ("COMPLETE", "PRUNED") and trial.ended is not None
    ]
    finished.sort(key=lambda trial: (trial.ended, trial.number))
    spans = _at_work(trials, now)
    moments, best = [], float("-inf")
    for n, trial in enumerate(finished, start=1):
        if trial.state == "COMPLETE" and trial.value is not None:
            best = max(best, trial.value)
        if best > float("-inf"):
            until = _end(trial, now)
            seconds = sum(min(end, until) - start for start, end in spans if start < until)
            moments.append((seconds, n, best))
    return moments


def _end(trial: TrialSummary, now: float) -> float:
    return now if trial.ended is None else trial.ended


def _at_work(trials: Sequence[TrialSummary], now: float) -> list[tuple[float, float]]:
    return _united(_spans(trials, now))


def _spans(trials: Sequence[TrialSummary], now: float) -> list[tuple[float, float]]:
    """Return the start and end of each trial that has started."""
    return [(trial.started, _end(trial, now)) for trial in trials if trial.started is not None]


def _united(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Merge time spans that touch or overlap, in order."""
    united: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united
