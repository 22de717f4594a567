"""The terminal: live progress of a study, and messages.

In a terminal, each trial that ends adds a line above a panel that is redrawn; elsewhere (a log
file, CI) every event is one plain line. Both are made from `TrialSummary` objects alone, so they
show the trials of all workers.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import track
from rich.progress_bar import ProgressBar
from rich.text import Text

from fer_search.trials import WORDS, TrialSummary, best_of, n_finished

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)


def say(message: str = "") -> None:
    """Print a line for the user, unwrapped, so that commands can be pasted."""
    console.print(message, markup=False)


def tracked(steps: Sequence[T], what: str) -> Iterable[T]:
    """Iterate over steps and show the progress, in a terminal."""
    return track(steps, what, console=console, disable=not console.is_terminal, transient=True)


class Progress:
    """Display of a study's progress.

    Args:
        trials: The trials at the start; those finished do not count in the estimate of time left.
        n_trials: Number of finished trials that the study should reach.
        epochs: Most epochs a trial may train.
    """

    def __init__(self, trials: Sequence[TrialSummary], *, n_trials: int, epochs: int) -> None:
        self._n_trials, self._epochs = n_trials, epochs
        self._started = time.monotonic()
        self._done_before = n_finished(trials)
        self._shown: dict[int, tuple[str, int]] = {trial.number: _stage(trial) for trial in trials}
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._live.stop()

    def update(self, trials: Sequence[TrialSummary]) -> None:
        """Show the state of the trials now."""
        for trial in trials:
            for line in self._news(trial, trials):
                say(line)
            self._shown[trial.number] = _stage(trial)
        if self._live:
            self._live.update(self._panel(trials))

    def _panel(self, trials: Sequence[TrialSummary]) -> RenderableType:
        """Build the panel, with lines meant for 80 columns; what does not fit is cut off."""
        lines = [self._done(trials), self._times(trials)]
        lines += [f"  {self._running(trial)}" for trial in trials if trial.state == "RUNNING"]
        bar = Padding(  # without it, the first line would begin behind the bar
            ProgressBar(total=self._n_trials, completed=n_finished(trials), width=40)
        )
        return Group(bar, *(Text(line, overflow="ellipsis", no_wrap=True) for line in lines))

    def _news(self, trial: TrialSummary, trials: Sequence[TrialSummary]) -> Iterator[str]:
        """Yield what a trial has done since the last update; the panel itself shows its epochs."""
        state, epochs = self._shown.get(trial.number, ("WAITING", 0))
        if trial.state == "WAITING":
            return
        if not self._live:
            if state == "WAITING":
                resumed = f"resumes after epoch {epochs} of {self._epochs}"
                yield f"{_name(trial)} · {resumed}" if epochs else self._at(trial, 0)
            yield from (self._at(trial, epoch) for epoch in sorted(trial.curve) if epoch > epochs)
        if trial.state not in ("RUNNING", state):
            ended = f"trial {trial.number} {_verdict(trial)}"
            after = "" if self._live else f" · {self._done(trials)} · {self._times(trials)}"
            yield ended + after

    def _done(self, trials: Sequence[TrialSummary]) -> str:
        counts = [
            f"{n} {WORDS[state]}"
            for state in ("PRUNED", "FAIL")
            if (n := sum(trial.state == state for trial in trials))
        ]
        done = f"{n_finished(trials)} of {self._n_trials} trials{_in_brackets(counts)}"
        best = best_of(trials)
        return done + (f" · best macro-F1 {best.value:.4f} (trial {best.number})" if best else "")

    def _times(self, trials: Sequence[TrialSummary]) -> str:
        elapsed = time.monotonic() - self._started
        left = self._time_left(trials, elapsed)
        return f"{_clock(elapsed)} so far" + (f" · {left}" if left else "")

    def _time_left(self, trials: Sequence[TrialSummary], elapsed: float) -> str:
        """Extrapolate from the share of the work done since the start."""
        shares = [self._share(trial) for trial in trials if trial.state == "RUNNING"]
        done = n_finished(trials) + sum(shares) - self._done_before
        missing = self._n_trials - self._done_before - done
        if done < 0.05 or missing <= 0:
            return ""
        return f"about {_clock(elapsed / done * missing)} left"

    def _share(self, trial: TrialSummary) -> float:
        if not trial.progress:
            return 0.0
        epoch, batch, batches = trial.progress
        return (epoch - 1 + batch / max(batches, 1)) / self._epochs

    def _running(self, trial: TrialSummary) -> str:
        if not trial.progress:
            return self._at(trial, trial.epochs)
        now, batch, batches = trial.progress
        where = f"epoch {now} of {self._epochs}, batch {batch} of {batches}"
        return " · ".join([_name(trial), where, *_score(trial, trial.epochs)])

    def _at(self, trial: TrialSummary, epoch: int) -> str:
        where = f"epoch {epoch} of {self._epochs}" if epoch else "started"
        return " · ".join([_name(trial), where, *_score(trial, epoch)])


def _stage(trial: TrialSummary) -> tuple[str, int]:
    """Return what must change for a line to be worth printing: the state or the last epoch."""
    return trial.state, trial.epochs


def _name(trial: TrialSummary) -> str:
    return f"trial {trial.number} {trial.params.get('backbone', '')}".rstrip()


def _verdict(trial: TrialSummary) -> str:
    """Say how a trial ended, and with what reason or score."""
    if trial.state == "FAIL":
        return f"failed: {trial.reason}"
    of_what = "its stored model has" if trial.state == "COMPLETE" else "the last epoch had"
    score = "" if trial.value is None else f": {of_what} macro-F1 {trial.value:.4f}"
    return trial.state.lower() + score


def _score(trial: TrialSummary, epoch: int) -> list[str]:
    return [f"macro-F1 {trial.curve[epoch]:.4f}"] if epoch in trial.curve else []


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
