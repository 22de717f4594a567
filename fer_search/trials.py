"""What a study knows about its trials, and what follows: the best one, progress, differences.

`study/study.py` makes these summaries from Optuna's trials; showing them does not need Optuna.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

WORDS = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
"""State of a trial -> its name where people read it."""

ENDED = ("COMPLETE", "PRUNED", "FAIL")
"""Final states of a trial."""

_LONGEST_REASON = 400
"""Most characters of a failure's message that are shown."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """What a study knows about one trial, for progress and figures."""

    number: int
    state: str
    """COMPLETE, PRUNED, FAIL, WAITING, or RUNNING while a live process trains it."""
    value: float | None
    """Validation macro-F1: of the stored model if complete, of the last epoch if pruned."""
    params: Mapping[str, float | int | str | bool]
    """Searched parameters by their names in the space; those of other branches are missing."""
    curve: Mapping[int, float]
    """Validation macro-F1 by epoch."""
    accuracy: float | None = None
    """Validation accuracy of the stored model, if complete."""
    run_id: str | None = None
    """MLflow run, once the trial has one."""
    failure: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """`failure.kind` and `failure.message` of a failed trial."""
    progress: Sequence[int] | None = None
    """Epoch, batch and batches per epoch of a running trial."""
    started: float | None = None
    """When it started, in seconds since the epoch; None while it waits."""
    ended: float | None = None
    """When it ended, in seconds since the epoch; None before."""

    @property
    def reason(self) -> str:
        """Why it failed, on one line and shortened."""
        words = " ".join(self.failure.get("failure.message", "no reason was recorded").split())
        if len(words) > _LONGEST_REASON:  # even within a word: a path or a list may be long
            words = words[: _LONGEST_REASON - 2] + " …"
        return words

    @property
    def epochs(self) -> int:
        """Epochs that were trained and reported."""
        return max(self.curve, default=0)


def ranked(trials: Iterable[TrialSummary]) -> list[TrialSummary]:
    """Sort by value, highest first; of equal values, the earliest trial first."""
    return sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.number))


def complete(trials: Iterable[TrialSummary]) -> list[TrialSummary]:
    """Return the completed trials, best first."""
    return ranked(t for t in trials if t.state == "COMPLETE" and t.value is not None)


def best_of(trials: Iterable[TrialSummary]) -> TrialSummary | None:
    """Return the best completed trial; None if there is none."""
    return next(iter(complete(trials)), None)


def main_parameters(trials: Sequence[TrialSummary]) -> list[str]:
    """Choose the parameters to show in columns: ours, or a custom HyperModel's first ones."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    return [n for n in ("backbone", "image_size", "optimizer") if n in names] or names[:4]


def n_finished(trials: Sequence[TrialSummary]) -> int:
    """Count the trials that count towards a study's goal: complete and pruned ones."""
    return sum(trial.state in ("COMPLETE", "PRUNED") for trial in trials)


def differing(trials: Sequence[TrialSummary], importances: Mapping[str, float]) -> list[str]:
    """List the parameters that differ between completed trials.

    The most important ones come first, then those that most trials have.
    """
    having: dict[str, list[float | int | str | bool]] = {}
    for trial in trials:
        for name, value in trial.params.items() if trial.state == "COMPLETE" else ():
            having.setdefault(name, []).append(value)
    names = [name for name, values in having.items() if len(set(values)) > 1]
    return sorted(names, key=lambda name: (-importances.get(name, 0), -len(having[name])))
