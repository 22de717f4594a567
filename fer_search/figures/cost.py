"""Figures of the cost of a search: the best value over time, and how long each trial trained."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_search.cost import best_so_far, pruning
from fer_search.figures import style
from fer_search.figures.study import NOTHING
from fer_search.trials import WORDS, TrialSummary

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}
_COLORS = {
    "COMPLETE": style.BLUE,
    "PRUNED": style.ORANGE,
    "FAIL": style.INK,
    "RUNNING": style.GREEN,
    "WAITING": style.GREY,
}


def best_over_time(studies: Mapping[str, Sequence[TrialSummary]], now: float) -> Figure:
    """Draw the best value so far over the time at work; for several studies, also over trials.

    Args:
        studies: Trials by the name of their study, one to six studies.
        now: Time until which running trials count, in seconds since the epoch.
    """
    title = "Best so far" if len(studies) > 1 else "Best so far over time"
    pauses = "without the time in which no trial ran"
    figure = style.new_figure(8, 3.8, title, pauses)
    panels = figure.subplots(1, min(len(studies), 2), sharey=True, squeeze=False)[0]
    curves = {name: np.array(best_so_far(each, now)) for name, each in studies.items()}
    last = max((curve[-1, 0] for curve in curves.values() if len(curve)), default=0)
    unit = next((u for u in ("hours", "minutes") if last >= 1.5 * _UNITS[u]), "seconds")
    for (name, curve), color in zip(curves.items(), style.SERIES, strict=False):
        if not len(curve):
            continue
        seconds, finished, best = curve.T
        _steps(panels[0], seconds / _UNITS[unit], best, last / _UNITS[unit], color, name)
        if len(panels) > 1:
            _steps(panels[1], finished, best, finished[-1], color, name)
    for axes, name in zip(panels, (f"{unit} at work", "finished trials"), strict=False):
        style.plain(axes, grid="y")
        axes.set_xlabel(name, color=style.INK)
        axes.set_xlim(left=0)
    if len(panels) > 1:
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        style.legend(panels[0], n_columns=3)
    panels[0].set_ylabel(style.OBJECTIVE, color=style.INK)
    if not any(len(curve) for curve in curves.values()):
        for axes in panels:
            style.note(axes, NOTHING)
    return figure


def epochs_by_trial(trials: Sequence[TrialSummary], most: int) -> Figure:
    """Draw how many epochs each trial trained and, paler, what pruning is likely to have saved.

    Args:
        trials: All trials of a study.
        most: Most epochs a trial may train.
    """
    spared = pruning(trials, most)
    facts = f"{sum(trial.epochs for trial in trials):,} epochs in total"
    if any(trial.state == "PRUNED" for trial in trials):
        facts += f"  ·  about {spared.saved:,} saved by pruning"
    figure = style.new_figure(8, 3.4, "Epochs per trial", facts)
    axes = figure.subplots()
    style.plain(axes, grid="y")
    for state, name in WORDS.items():
        some = [trial for trial in trials if trial.state == state]
        numbers, lengths = [t.number for t in some], np.array([t.epochs for t in some])
        bar = functools.partial(axes.bar, numbers, color=_COLORS[state], width=0.8)
        if some:
            bar(lengths, label=name)
        if state == "PRUNED" and spared.saved:
            rest = np.maximum(spared.expected - lengths, 0)
            bar(rest, bottom=lengths, alpha=0.2, label="saved")
    axes.set_ylabel("epochs", color=style.INK)
    axes.margins(y=0.08)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    style.count_below(axes, "trial", 0, max((trial.number for trial in trials), default=0))
    style.legend(axes, n_columns=6)
    if not trials:
        style.note(axes, "no trials yet")
    return figure


def _steps(
    axes: Axes, places: np.ndarray, best: np.ndarray, end: float, color: str, name: str
) -> None:
    """Draw a value that holds until the next one, with a point where it rises."""
    axes.step(
        [*places, end], [*best, best[-1]], where="post", color=color, label=name, linewidth=1.6
    )
    rises = np.diff(best, prepend=-np.inf) > 0
    axes.scatter(places[rises], best[rises], color=color, s=20, zorder=3)
