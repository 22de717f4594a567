"""The terminal: live progress of a study, tables of trials and stored models, and messages.

In a terminal, a panel that is redrawn; elsewhere (a log file, CI) one plain line per event. Both
are made of the study's `TrialPoint`s alone, so they show the trials of all workers.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import track
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fer_search.results import TrialPoint, best_of
from fer_search.retention import Verdict

T = TypeVar("T")
console = Console(highlight=False, soft_wrap=True)
_FINISHED = ("COMPLETE", "PRUNED")


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
        self._done_before = _n_done(points)
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
        if self._live:
            self._live.update(self._panel(points))
        else:
            for point in points:
                if self._shown.get(point.number) != _stage(point) and point.state != "WAITING":
                    say(self._line(point, points))
                self._shown[point.number] = _stage(point)

    def _panel(self, points: Sequence[TrialPoint]) -> RenderableType:
        running = [Text(f"  {self._running(p)}") for p in points if p.state == "RUNNING"]
        bar = ProgressBar(total=self._trials, completed=_n_done(points), width=40)
        return Group(bar, Text(self._summary(points)), *running)

    def _line(self, point: TrialPoint, points: Sequence[TrialPoint]) -> str:
        if point.state == "RUNNING":
            return self._running(point)
        value = "" if point.value is None else f" with macro-F1 {point.value:.4f}"
        return f"trial {point.number} {point.state.lower()}{value} · {self._summary(points)}"

    def _summary(self, points: Sequence[TrialPoint]) -> str:
        counts = [
            f"{n} {word}"
            for word, state in (("pruned", "PRUNED"), ("failed", "FAIL"))
            if (n := sum(point.state == state for point in points))
        ]
        best = best_of(points)
        parts = [f"{_n_done(points)} of {self._trials} trials" + _in_brackets(counts)]
        if best:
            parts.append(f"best macro-F1 {best.value:.4f} (trial {best.number})")
        elapsed = time.monotonic() - self._started
        parts.append(f"{_clock(elapsed)} so far")
        parts.append(self._time_left(points, elapsed))
        return " · ".join(part for part in parts if part)

    def _time_left(self, points: Sequence[TrialPoint], elapsed: float) -> str:
        """Extrapolate from the share of the work that was done since the start."""
        shares = [self._share(point) for point in points if point.state == "RUNNING"]
        done = _n_done(points) + sum(shares) - self._done_before
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
        parts = [f"trial {point.number}"]
        if "backbone" in point.params:
            parts[0] += f" {point.params['backbone']}"
        epoch = point.epochs
        if self._live and point.progress:
            now, batch, batches = point.progress
            parts.append(f"epoch {now} of {self._epochs}, batch {batch} of {batches}")
        else:
            parts.append(f"epoch {epoch} of {self._epochs}" if epoch else "started")
        if epoch:
            parts.append(f"macro-F1 {point.curve[epoch]:.4f}")
        return " · ".join(parts)


def top_trials(points: Sequence[TrialPoint], n: int = 5) -> Table:
    """Tabulate the best completed trials, best first."""
    complete = [point for point in points if point.state == "COMPLETE"]
    ranked = sorted(complete, key=lambda point: (-(point.value or 0), point.number))[:n]
    begun = sum(point.state != "WAITING" for point in points)  # points to try first wait, too
    table = Table(title=f"Top {len(ranked)} of {begun} trials, on validation")
    for column in (
        "trial",
        "macro-F1",
        "accuracy",
        "epochs",
        "backbone",
        "image size",
        "optimizer",
    ):
        table.add_column(column, justify="right")
    for point in ranked:
        table.add_row(
            str(point.number),
            f"{point.value:.4f}",
            f"{point.accuracy:.4f}" if point.accuracy is not None else "",
            str(point.epochs),
            str(point.params.get("backbone", "")),
            str(point.params.get("image_size", "")),
            str(point.params.get("optimizer", "")),
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


def _stage(point: TrialPoint) -> tuple[str, int]:
    """What must change for a plain line to be worth printing: the state, or the last epoch."""
    return point.state, point.epochs


def _n_done(points: Sequence[TrialPoint]) -> int:
    return sum(point.state in _FINISHED for point in points)


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
