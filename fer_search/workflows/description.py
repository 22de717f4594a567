"""The description of a study run in the MLflow UI: results and next steps, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fer_search.reporting.wording import value
from fer_search.trials import ENDED, WORDS, TrialSummary, best_of, complete, main_parameters

_MOST = 5
"""Maximum number of trials in the table."""


def page(
    trials: Sequence[TrialSummary],
    experiment_id: str,
    commands: Mapping[str, str],
    score: str = "",
) -> str:
    """Write the page.

    Args:
        trials: The trials so far.
        experiment_id: Id of the runs' experiment, for links.
        commands: Commands that the reader may want next, by what they do.
        score: A sentence on the test score, once the test set has been opened.
    """
    links = f"#/experiments/{experiment_id}/runs/{{run_id}}"
    ended = {state: sum(trial.state == state for trial in trials) for state in ENDED}
    counted = ", ".join(f"{number} {WORDS[state]}" for state, number in ended.items() if number)
    paragraphs = [f"**Trials:** {counted or 'none has finished yet'}."]
    if best := best_of(trials):
        number = _link(best, links)
        chosen = f"Best on validation: trial {number}, macro-F1 {best.value:.4f}."
        paragraphs += [f"{chosen} {score}".strip(), _table(trials, links)]
    paragraphs += [f"{what}:\n\n    {command}" for what, command in commands.items()]
    return "\n\n".join(paragraphs)


def _table(trials: Sequence[TrialSummary], links: str) -> str:
    best = complete(trials)[:_MOST]
    parameters = main_parameters(best)
    names = ("trial", "macro-F1", "accuracy", "epochs", *parameters)
    rows = [
        (
            _link(trial, links),
            f"{trial.value:.4f}",
            "" if trial.accuracy is None else f"{trial.accuracy:.4f}",
            max(trial.curve, default=0),
            *(value(trial.params.get(name)) for name in parameters),
        )
        for trial in best
    ]
    lines = [names, ["---:"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _link(trial: TrialSummary, links: str) -> str:
    return f"[{trial.number}]({links.format(run_id=trial.run_id)})"
