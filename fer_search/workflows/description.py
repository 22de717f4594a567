"""The description of a study run in the MLflow UI: what came out, and how to go on, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fer_search.reporting.wording import value
from fer_search.trial_points import TrialPoint, best_of, main_parameters

_MOST = 5
"""Trials in the table."""


def page(
    points: Sequence[TrialPoint],
    experiment_id: str,
    commands: Mapping[str, str],
    score: str = "",
) -> str:
    """Write the page.

    Args:
        points: The trials so far.
        experiment_id: Of the runs, for links.
        commands: What a person may want next, to the command that does it.
        score: A sentence on the test score, once test has been opened.
    """
    links = f"#/experiments/{experiment_id}/runs/{{run_id}}"
    ended = {
        word: sum(point.state == state for point in points)
        for word, state in (("complete", "COMPLETE"), ("pruned", "PRUNED"), ("failed", "FAIL"))
    }
    counted = ", ".join(f"{number} {word}" for word, number in ended.items() if number)
    paragraphs = [f"**Trials:** {counted or 'none has ended yet'}."]
    if best := best_of(points):
        number = _link(best, links)
        chosen = f"Validation chose trial {number} with macro-F1 {best.value:.4f}."
        paragraphs += [f"{chosen} {score}".strip(), _table(points, links)]
    paragraphs += [f"{what}:\n\n    {command}" for what, command in commands.items()]
    return "\n\n".join(paragraphs)


def _table(points: Sequence[TrialPoint], links: str) -> str:
    complete = [point for point in points if point.state == "COMPLETE"]
    ranked = sorted(complete, key=lambda point: (-(point.value or 0), point.number))[:_MOST]
    parameters = main_parameters(ranked)
    names = ("trial", "macro-F1", "accuracy", "epochs", *parameters)
    rows = [
        (
            _link(point, links),
            f"{point.value:.4f}",
            "" if point.accuracy is None else f"{point.accuracy:.4f}",
            max(point.curve, default=0),
            *(value(point.params.get(name)) for name in parameters),
        )
        for point in ranked
    ]
    lines = [names, ["---:"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _link(point: TrialPoint, links: str) -> str:
    return f"[{point.number}]({links.format(run_id=point.run_id)})"
