"""Studies side by side: what they have in common, where they differ, and which one is ahead."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fer_search.comparison import macro_f1_gain, mcnemar
from fer_search.cost import cost_of
from fer_search.figures import cost as cost_figures
from fer_search.figures import promotion as model_figures
from fer_search.figures.embedding import EmbeddedFigure, embedded
from fer_search.reporting.findings import Findings
from fer_search.reporting.tables import Table
from fer_search.reporting.wording import MISSING, duration, interval, score

_CONFIDENCE = 0.975
"""Of the one-sided bound: the data choose the leader, so it is one side of a 95 % interval."""
_BUDGET = ("trials", "timeout", "epochs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the template shows of several studies together."""

    warnings: Sequence[str]
    """Differences because of which their scores cannot be compared directly."""
    results: Table
    settings: Table
    """The settings in which they differ."""
    gains: Table | None
    """The best on test against the others tested on the same images; None if there are none."""
    over_time: EmbeddedFigure
    f1: EmbeddedFigure | None
    """None unless all tested studies were tested on the same images."""


def compare(studies: Sequence[Findings]) -> Comparison:
    """Compare studies side by side.

    Args:
        studies: Findings of two to six studies.
    """
    tested = [each for each in studies if each.tested]
    by_images: dict[str, list[Findings]] = defaultdict(list)
    for each in tested:
        by_images[each.facts["test_digest"]].append(each)
    groups = [group for group in by_images.values() if len(group) > 1]
    is_common = bool(groups) and len(groups[0]) == len(tested)
    evaluations = {each.name: each.tested.evaluation for each in studies if each.tested}
    figure = cost_figures.best_over_time(
        {each.name: each.trials for each in studies}, max(each.made for each in studies)
    )
    return Comparison(
        warnings=list(_warnings(studies)),
        results=_results(studies),
        settings=_settings(studies),
        gains=_gains(groups) if groups else None,
        over_time=embedded(figure),
        f1=embedded(model_figures.f1_intervals(evaluations)) if is_common else None,
    )


def _warnings(studies: Sequence[Findings]) -> Iterator[str]:
    if _differ(studies, lambda each: each.facts["test_digest"]):
        told = _told(studies, lambda each: f"{_images(each, 'test')} of {each.search.data}")
        yield f"The test images differ, so scores on test cannot be compared: {told}."
    if _differ(studies, lambda each: each.facts["train_digest"]):
        told = _told(studies, lambda each: f"{_images(each, 'train')} of {each.search.data}")
        yield (
            "The images for training and validation differ, so scores on validation cannot be "
            f"compared: trained on {told}."
        )
    if budget := [row for row in _settings(studies).rows if row[0] in _BUDGET]:
        names = [each.name for each in studies]
        told = "; ".join(f"{row[0]}: {_listed(row[1:], names)}" for row in budget)
        yield f"The budget differs: {told}."
    if _differ(studies, lambda each: each.finished):
        told = _told(studies, lambda each: f"{each.finished:,}")
        yield f"Their progress differs; finished trials: {told}."
    if _differ(studies, lambda each: each.facts["space"]):
        yield "They searched different spaces."
    if _differ([each for each in studies if each.device], lambda each: each.device):
        told = _told(studies, lambda each: each.device or "unknown")
        yield f"They ran on different devices, so their times cannot be compared: {told}."


def _differ(studies: Sequence[Findings], of: Callable[[Findings], Any]) -> bool:
    return len({of(each) for each in studies}) > 1


def _told(studies: Sequence[Findings], of: Callable[[Findings], str]) -> str:
    return _listed([of(each) for each in studies], [each.name for each in studies])


def _listed(values: Sequence[str], names: Sequence[str]) -> str:
    return ", ".join(f"{value} ({name})" for value, name in zip(values, names, strict=True))


def _images(findings: Findings, part: str) -> str:
    if not findings.data:
        return "an unknown number"
    return f"{sum(findings.data['counts'][part].values()):,}"


def _results(studies: Sequence[Findings]) -> Table:
    def of_test(each: Findings, name: str) -> str:
        if each.tested is None:
            return MISSING
        value = each.tested.evaluation.metrics("test")[f"test_{name}"]
        return f"{score(value)} ({interval(each.tested.intervals[name])})"

    rows: dict[str, Callable[[Findings], str]] = {
        "best macro-F1 on validation": lambda each: score(each.best.value if each.best else None),
        "its accuracy": lambda each: score(each.best.accuracy if each.best else None),
        "macro-F1 on test (95 % interval)": lambda each: of_test(each, "macro_f1"),
        "accuracy on test (95 % interval)": lambda each: of_test(each, "accuracy"),
        "finished trials": lambda each: f"{each.finished:,}",
        "pruned": lambda each: f"{each.states['PRUNED']:,}",
        "failed": lambda each: f"{each.states['FAIL']:,}",
        "epochs": lambda each: f"{cost_of(each.trials, each.made).epochs:,}",
        "time in trials": lambda each: duration(cost_of(each.trials, each.made).seconds),
        "test set openings": lambda each: f"{len(each.openings):,}",
    }
    return Table(
        head=("", *(each.name for each in studies)),
        rows=[(name, *(of(each) for each in studies)) for name, of in rows.items()],
    )


def _settings(studies: Sequence[Findings]) -> Table:
    params = [each.search.to_params() for each in studies]
    rows = [
        (name, *(each[name] for each in params))
        for name in params[0]
        if name != "study" and len({each[name] for each in params}) > 1
    ]
    head = ("setting", *(each.name for each in studies))
    return Table(head=head, rows=rows, texts=len(head))


def _gains(groups: Sequence[Sequence[Findings]]) -> Table:
    """Compare the highest macro-F1 with every other one tested on the same images."""
    return Table(
        head=("on test", "gain in macro-F1", "at least", "significant", "McNemar’s p"),
        rows=[row for group in groups for row in _gains_in(group)],
    )


def _gains_in(studies: Sequence[Findings]) -> Iterator[Sequence[str]]:
    evaluations = [(each.name, each.tested.evaluation) for each in studies if each.tested]
    evaluations.sort(key=lambda pair: -pair[1].macro_f1)
    (leader, ahead), *others = evaluations
    for name, behind in others:
        gain = macro_f1_gain(ahead, behind, confidence=_CONFIDENCE)
        yield (
            f"{leader} over {name}",
            f"{gain.gain:+.3f}",
            f"{gain.lower:+.3f}",
            "yes" if gain.lower > 0 else "no",
            f"{mcnemar(ahead, behind):.2g}",
        )
