"""Tables on the terminal: the best trials of a study, and the sizes of stored models."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from fer_search.retention import Verdict
from fer_search.trials import TrialSummary, complete, main_parameters


def top_trials(trials: Sequence[TrialSummary], n: int = 5) -> Table:
    """Tabulate the best completed trials, best first."""
    best = complete(trials)[:n]
    begun = sum(trial.state != "WAITING" for trial in trials)  # enqueued trials wait, too
    table = Table(title=f"Top {len(best)} of {begun} trials, on validation")
    parameters = main_parameters(best)
    for column in ("trial", "macro-F1", "accuracy", "epochs", *parameters):
        table.add_column(column.replace("_", " "), justify="right")
    for trial in best:
        table.add_row(
            str(trial.number),
            f"{trial.value:.4f}",
            f"{trial.accuracy:.4f}" if trial.accuracy is not None else "",
            str(trial.epochs),
            *(_cell(trial.params.get(name, "")) for name in parameters),
        )
    return table


def stored_models(title: str, verdicts: Sequence[Verdict]) -> Table:
    """Tabulate the sizes of stored models and what becomes of each."""
    megabytes = sum(verdict.model.size for verdict in verdicts) / 1e6
    table = Table(
        title=f"{title}: {len(verdicts)} stored, {megabytes:.1f} MB", title_justify="left"
    )
    for column in ("model", "macro-F1", "MB", "registered"):
        is_number = column in ("macro-F1", "MB")
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number)
    table.add_column("verdict", min_width=24)
    for verdict in verdicts:
        model = verdict.model
        fate = "delete" if verdict.goes else "keep"
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
