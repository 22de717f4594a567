"""The tables of a report: findings in, rows of formatted cells out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fer_search.config import EMOTIONS, SearchConfig
from fer_search.cost import cost_of
from fer_search.data.duplicates import PARTS
from fer_search.reporting.findings import Findings, Tested
from fer_search.reporting.wording import (
    MISSING,
    duration,
    interval,
    moment,
    score,
    share,
    value,
)
from fer_search.trials import WORDS, TrialSummary, complete, differing

TOP = 10
_PARAMETERS = 4
"""Columns for parameters in the table of the best trials."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of formatted cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    """Number of leading columns with text; the others hold numbers."""
    total: bool = False
    """Whether the last row is the sum of the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fact:
    """A name and its value."""

    name: str
    value: str
    instead_of: str = ""
    """Default of a setting that has another value, otherwise empty."""


def asked(findings: Findings) -> list[Fact]:
    """List every setting."""
    default = SearchConfig().to_params()
    return [
        Fact(name=name, value=given, instead_of="" if given == default[name] else default[name])
        for name, given in findings.search.to_params().items()
        if name not in ("study", "storage")
    ]


def counts(findings: Findings) -> Table:
    """Count images by emotion and part."""
    parts = [findings.data["counts"][part] for part in PARTS]
    rows = [(name, *(f"{part[name]:,}" for part in parts)) for name in EMOTIONS]
    total = ("all", *(f"{sum(part.values()):,}" for part in parts))
    return Table(
        head=("emotion", "training", "validation", "test"), rows=[*rows, total], total=True
    )


def left_out(findings: Findings) -> Table:
    """List what was dropped from the source, and why."""
    rows = [
        (reason, ", ".join(row["examples"][:2]), f"{row['count']:,}")
        for reason, row in findings.data["dropped"].items()
        if row["count"]
    ]
    skipped = findings.data["skipped"]
    if skipped["count"]:
        examples = (f"{each['origin']} ({each['reason']})" for each in skipped["examples"][:2])
        rows.append(("unreadable", ", ".join(examples), f"{skipped['count']:,}"))
    return Table(head=("reason", "examples", "images"), rows=rows, texts=2)


def top(findings: Findings) -> Table:
    """List the best completed trials, with the most important parameters."""
    best = complete(findings.trials)
    names = differing(best, findings.importances)[:_PARAMETERS]
    rows = []
    for trial in best[:TOP]:
        metrics = findings.metrics.get(trial.number, {})
        rows.append(
            (
                str(trial.number),
                score(trial.value, 4),
                score(trial.accuracy, 4),
                str(trial.epochs),
                duration(metrics.get("train_seconds")),
                *(value(trial.params.get(name), digits=3) for name in names),
            )
        )
    return Table(
        head=("trial", "macro-F1", "accuracy", "epochs", "training", *names), rows=rows, texts=0
    )


def scores(tested: Tested) -> Table:
    """List the scores on test, plain and averaged over views."""
    rows = []
    for views, seen in sorted(tested.views.items()):
        ends = tested.intervals if views == 1 else seen.intervals()
        rows.append(
            (
                "1" if views == 1 else f"mean of {views}",
                score(seen.macro_f1),
                interval(ends["macro_f1"]),
                score(seen.accuracy),
                interval(ends["accuracy"]),
                score(seen.balanced_accuracy),
            )
        )
    head = (
        "views",
        "macro-F1",
        "95 % interval",
        "accuracy",
        "95 % interval",
        "balanced accuracy",
    )
    return Table(head=head, rows=rows)


def emotions(findings: Findings) -> Table:
    """List each emotion's scores on test and its F1 on validation."""
    best, tested = findings.best, findings.tested
    on_validation = findings.metrics.get(tested.trial if tested else best.number if best else -1)
    rows = []
    for index, name in enumerate(EMOTIONS):
        cells = [name]
        if tested:
            seen = tested.evaluation
            cells += [
                f"{seen.confusion[index].sum():,}",
                score(seen.precision[index]),
                score(seen.recall[index]),
                score(seen.f1[index]),
                interval(tested.intervals[f"f1_{name}"]),
            ]
        cells.append(score((on_validation or {}).get(f"val_f1_{name}")))
        rows.append(cells)
    of_test = ("images", "precision", "recall", "F1", "95 % interval") if tested else ()
    return Table(head=("emotion", *of_test, "F1 on validation"), rows=rows)


def cost(findings: Findings) -> Table:
    """Sum up trials, epochs and time by the trials' state."""
    whole = cost_of(findings.trials, findings.made)
    parts = {
        name: cost_of([p for p in findings.trials if p.state == state], findings.made)
        for state, name in WORDS.items()
    }
    rows = [
        (
            name,
            f"{part.trials:,}",
            f"{part.epochs:,}",
            duration(part.seconds),
            duration(part.seconds / part.epochs if part.seconds and part.epochs else None),
            share(part.seconds / whole.seconds) if whole.seconds else MISSING,
        )
        for name, part in {**parts, "all": whole}.items()
        if part.trials or part is whole
    ]
    head = ("state", "trials", "epochs", "time", "per epoch", "share")
    return Table(head=head, rows=rows, total=True)


def failures(findings: Findings) -> Table:
    """List why trials failed, most frequent reason first."""
    numbers_of: dict[tuple[str, str], list[int]] = {}
    for trial in findings.trials:
        if trial.state == "FAIL":
            kind = trial.failure.get("failure.kind", MISSING).replace("_", " ")
            numbers_of.setdefault((kind, trial.reason), []).append(trial.number)
    rows = [
        (kind, reason, ", ".join(map(str, numbers)))
        for (kind, reason), numbers in sorted(numbers_of.items(), key=lambda item: -len(item[1]))
    ]
    return Table(head=("kind", "reason", "trials"), rows=rows, texts=3)


def openings(findings: Findings) -> Table:
    """List every opening of the test set."""
    rows = [
        (str(each["at"]).replace("T", " ").replace("+00:00", " UTC"), str(each["trial"]),
         str(each["why"]))
        for each in findings.openings
    ]  # fmt: skip
    return Table(head=("when", "trial", "why"), rows=rows, texts=3)


def environment(findings: Findings) -> list[Fact]:
    """List machine and software."""
    facts: list[Fact] = []
    for name, fact in findings.environment.items():
        if name == "commit":
            continue  # `identity` lists it
        if isinstance(fact, dict):
            facts += [Fact(name=key, value=str(version)) for key, version in fact.items()]
        else:
            facts.append(Fact(name=name, value=value(fact)))
    return facts


def identity(findings: Findings) -> list[Fact]:
    """List the identifiers of study, run and data."""
    facts = findings.facts
    identities = {
        "study": findings.name,
        "started": moment(findings.began),
        "MLflow run": findings.run_id,
        "commit": findings.commit or MISSING,
        "digest of training and validation": facts["train_digest"],
        "digest of test": facts["test_digest"],
        "digest of the search space": facts["space"],
    }
    return [Fact(name=name, value=str(each)) for name, each in identities.items()]


def parameters(trial: TrialSummary) -> list[Fact]:
    """List the hyperparameters of a trial."""
    return [Fact(name=name, value=value(given)) for name, given in trial.params.items()]
