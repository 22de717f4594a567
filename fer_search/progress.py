"""The terminal: live progress of a study, tables of trials and stored models, and messages.

In a terminal, a line for each trial that ends above a panel that is redrawn; elsewhere (a log file,
CI) one plain line for every event. All are made of `TrialPoint`s alone, so they show the trials of
all workers.
"""

from __future__ import annotations

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
from rich.table import Table
from rich.text import Text

from fer_search.retention import Verdict
from fer_search.trial_points import TrialPoint, best_of, main_parameters, n_finished

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)


def say(message: str = "") -> None:
    """Print a line for the person, unwrapped, so that commands can be pasted."""
    console.print(message, markup=False)


def tracked(steps: Sequence[T], what: str) -> Iterable[T]:
    """Go through steps and show how far one is, in a terminal."""
    return track(steps, what, console=console, disable=not console.is_terminal, transient=True)


class Progress:
    """Shows how far a study has come.

    Args:
        points: The trials as the command finds them; what is done already takes no time.
        trials: Finished trials the study shall hold.
        epochs: Most epochs a trial may train.
    """

    def __init__(self, points: Sequence[TrialPoint], *, trials: int, epochs: int) -> None:
        self._trials, self._epochs = trials, epochs
        self._started = time.monotonic()
        self._done_before = n_finished(points)
        self._shown: dict[int, tuple[str, int]] = {p.number: _stage(p) for p in points}
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
            self._live.stop()

    def update(self, points: Sequence[TrialPoint]) -> None:
        """Show the state of the trials now."""
        for point in points:
            for line in self._news(point, points):
                say(line)
            self._shown[point.number] = _stage(point)
        if self._live:
            self._live.update(self._panel(points))

    def _panel(self, points: Sequence[TrialPoint]) -> RenderableType:
        """Lines that fit 80 columns: what does not fit is cut off."""
        lines = [self._done(points), self._times(points)]
        lines += [f"  {self._running(p)}" for p in points if p.state == "RUNNING"]
        bar = Padding(  # without which the first line begins behind the bar
            ProgressBar(total=self._trials, completed=n_finished(points), width=40)
        )
        return Group(bar, *(Text(line, overflow="ellipsis", no_wrap=True) for line in lines))

    def _news(self, point: TrialPoint, points: Sequence[TrialPoint]) -> Iterator[str]:
        """What has come of a trial since the last look; the panel shows its epochs itself."""
        state, epochs = self._shown.get(point.number, ("WAITING", 0))
        if point.state == "WAITING":
            return
        if not self._live:
            if state == "WAITING":
                yield self._at(point, epochs)
            yield from (self._at(point, epoch) for epoch in sorted(point.curve) if epoch > epochs)
        if point.state not in ("RUNNING", state):
            ended = f"trial {point.number} {_verdict(point)}"
            after = "" if self._live else f" · {self._done(points)} · {self._times(points)}"
            yield ended + after

    def _done(self, points: Sequence[TrialPoint]) -> str:
        counts = [
            f"{n} {word}"
            for word, state in (("pruned", "PRUNED"), ("failed", "FAIL"))
            if (n := sum(point.state == state for point in points))
        ]
        done = f"{n_finished(points)} of {self._trials} trials{_in_brackets(counts)}"
        best = best_of(points)
        return done + (f" · best macro-F1 {best.value:.4f} (trial {best.number})" if best else "")

    def _times(self, points: Sequence[TrialPoint]) -> str:
        elapsed = time.monotonic() - self._started
        left = self._time_left(points, elapsed)
        return f"{_clock(elapsed)} so far" + (f" · {left}" if left else "")

    def _time_left(self, points: Sequence[TrialPoint], elapsed: float) -> str:
        """Extrapolate from the share of the work that was done since the start."""
        shares = [self._share(point) for point in points if point.state == "RUNNING"]
        done = n_finished(points) + sum(shares) - self._done_before
        missing = self._trials - self._done_before - done
        if done < 0.05 or missing <= 0:
            return ""
        return f"about {_clock(elapsed / done * missing)} left"

    def _share(self, point: TrialPoint) -> float:
        if not point.progress:
            return 0.0
        epoch, batch, batches = point.progress
        return (epoch - 1 + batch / max(batches, 1)) / self._epochs

    def _running(self, point: TrialPoint) -> str:
        if not point.progress:
            return self._at(point, point.epochs)
        now, batch, batches = point.progress
        where = f"epoch {now} of {self._epochs}, batch {batch} of {batches}"
        return " · ".join([_name(point), where, *_score(point, point.epochs)])

    def _at(self, point: TrialPoint, epoch: int) -> str:
        where = f"epoch {epoch} of {self._epochs}" if epoch else "started"
        return " · ".join([_name(point), where, *_score(point, epoch)])


def top_trials(points: Sequence[TrialPoint], n: int = 5) -> Table:
    """Tabulate the best completed trials, best first."""
    complete = [point for point in points if point.state == "COMPLETE"]
    ranked = sorted(complete, key=lambda point: (-(point.value or 0), point.number))[:n]
    begun = sum(point.state != "WAITING" for point in points)  # points to try first wait, too
    table = Table(title=f"Top {len(ranked)} of {begun} trials, on validation")
    parameters = main_parameters(ranked)
    for column in ("trial", "macro-F1", "accuracy", "epochs", *parameters):
        table.add_column(column.replace("_", " "), justify="right")
    for point in ranked:
        table.add_row(
            str(point.number),
            f"{point.value:.4f}",
            f"{point.accuracy:.4f}" if point.accuracy is not None else "",
            str(point.epochs),
            *(_cell(point.params.get(name, "")) for name in parameters),
        )
    return table


def space(title: str, verdicts: Sequence[Verdict]) -> Table:
    """Tabulate what stored models take, and what becomes of each."""
    megabytes = sum(verdict.model.size for verdict in verdicts) / 1e6
    table = Table(
        title=f"{title}: {len(verdicts)} stored, {megabytes:.1f} MB", title_justify="left"
    )
    for column in ("model", "macro-F1", "MB", "registered"):
        is_number = column in ("macro-F1", "MB")
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number)
    table.add_column("what becomes of it", min_width=24)
    for verdict in verdicts:
        model = verdict.model
        fate = "goes" if verdict.goes else "stays"
        cells = (
            model.name,
            "" if model.score is None else f"{model.score:.4f}",
            f"{model.megabytes:.1f}",
            ", ".join(f"{version.name}/{version.number}" for version in model.versions),
            f"{fate}: {verdict.why}",
        )
        table.add_row(*map(Text, cells), style="bold" if verdict.goes else "")
    return table


def _cell(value: float | int | str | bool) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _stage(point: TrialPoint) -> tuple[str, int]:
    """What must change for a line to be worth printing: the state, or the last epoch."""
    return point.state, point.epochs


def _name(point: TrialPoint) -> str:
    return f"trial {point.number} {point.params.get('backbone', '')}".rstrip()


def _verdict(point: TrialPoint) -> str:
    """How it ended, and with what."""
    if point.state == "FAIL":
        return f"failed: {point.reason}"
    of_what = "its stored model has" if point.state == "COMPLETE" else "the last epoch had"
    score = "" if point.value is None else f": {of_what} macro-F1 {point.value:.4f}"
    return point.state.lower() + score


def _score(point: TrialPoint, epoch: int) -> list[str]:
    return [f"macro-F1 {point.curve[epoch]:.4f}"] if epoch in point.curve else []


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
