"""A chapter of a report: the figures, tables and facts of one study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.cost import Pruning, pruning
from fer_search.data.images import encode
from fer_search.figures import cost as cost_figures
from fer_search.figures import promotion as model_figures
from fer_search.figures import study as study_figures
from fer_search.figures import trial as trial_figures
from fer_search.figures.embedding import EmbeddedFigure, data_uri, embedded
from fer_search.figures.parallel import parallel_coordinates
from fer_search.reporting import tables
from fer_search.reporting.findings import Findings, Tested
from fer_search.reporting.tables import Fact, Table
from fer_search.reporting.wording import share
from fer_search.trials import differing

MISTAKES = 24
_SLICES = 12
"""Number of parameters with a slice plot."""
_SAMPLES = 12
"""Number of training images of each emotion."""
_GAP = 4
"""Pixels between two of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test image that the model got wrong."""

    predicted: str
    sure: str
    """Probability of the predicted emotion."""
    true: str
    origin: str
    uri: str
    """The image; empty if it is not available."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chapter:
    """What the template shows of a study."""

    findings: Findings
    figures: Mapping[str, EmbeddedFigure]
    tables: Mapping[str, Table]
    facts: Mapping[str, list[Fact]]
    samples: Mapping[str, str]
    """A strip of training images by emotion; empty if they are not available."""
    mistakes: list[Mistake]
    pruning: Pruning


def chapter(findings: Findings) -> Chapter:
    """Draw and format what is known about a study; what is unknown is left out."""
    return Chapter(
        findings=findings,
        figures={name: embedded(figure) for name, figure in _drawn(findings).items()},
        tables=_tabulated(findings),
        facts=_listed(findings),
        samples=_samples(findings),
        mistakes=_mistakes(findings, findings.tested) if findings.tested else [],
        pruning=pruning(findings.trials, findings.search.epochs),
    )


def _drawn(findings: Findings) -> dict[str, Any]:
    trials, tested, best = findings.trials, findings.tested, findings.best
    figures = {
        "history": study_figures.optimization_history(trials),
        "over_time": cost_figures.best_over_time({findings.name: trials}, findings.made),
        "trial_curves": study_figures.trial_curves(trials),
        "importances": study_figures.parameter_importances(findings.importances),
        "parallel": parallel_coordinates(trials, findings.importances),
        "slices": study_figures.parameters(
            trials, differing(trials, findings.importances)[:_SLICES]
        ),
        "epochs": cost_figures.epochs_by_trial(trials, findings.search.epochs),
    }
    if findings.curves and best:
        kept = int(findings.metrics.get(best.number, {}).get("best_epoch", 0)) or None
        figures["learning_curves"] = trial_figures.learning_curves(findings.curves, kept)
    if tested:
        seen, title = tested.evaluation, f"Trial {tested.trial} on test"
        figures |= {
            "confusion": trial_figures.confusion_matrix(seen, title),
            "f1": model_figures.f1_intervals({title: seen}),
            "calibration": trial_figures.calibration(seen, "Confidence and accuracy"),
        }
    return figures


def _tabulated(findings: Findings) -> dict[str, Table]:
    some = {
        "top": tables.top(findings),
        "emotions": tables.emotions(findings),
        "cost": tables.cost(findings),
        "failures": tables.failures(findings),
        "openings": tables.openings(findings),
    }
    if findings.data:
        some |= {"counts": tables.counts(findings), "left_out": tables.left_out(findings)}
    if findings.tested:
        some["scores"] = tables.scores(findings.tested)
    return some


def _listed(findings: Findings) -> dict[str, list[Fact]]:
    return {
        "asked": tables.asked(findings),
        "parameters": tables.parameters(findings.best) if findings.best else [],
        "environment": tables.environment(findings),
        "identity": tables.identity(findings),
    }


def _samples(findings: Findings) -> dict[str, str]:
    """Put evenly spaced training images of each emotion side by side."""
    if findings.splits is None:
        return {}
    train, strips = findings.splits.train, {}
    for label, name in enumerate(EMOTIONS):
        those = np.flatnonzero(train.labels == label)
        chosen = np.unique(np.linspace(0, len(those) - 1, _SAMPLES).round().astype(int))
        faces = np.asarray(train.packed)[train.indices[those[chosen]]]
        padded = np.pad(faces, ((0, 0), (0, 0), (0, _GAP)), constant_values=255)
        blank = np.full((_SAMPLES - len(faces), *padded.shape[1:]), 255, np.uint8)
        strip = np.concatenate([*padded, *blank], axis=1)[:, :-_GAP]
        strips[name] = data_uri("png", encode(strip))
    return strips


def _mistakes(findings: Findings, tested: Tested) -> list[Mistake]:
    seen, splits = tested.evaluation, findings.splits
    is_same = splits is not None and np.array_equal(splits.test.origins, tested.origins)
    return [
        Mistake(
            predicted=EMOTIONS[seen.predictions[index]],
            sure=share(seen.probabilities[index].max()),
            true=EMOTIONS[seen.labels[index]],
            origin=str(tested.origins[index]),
            uri=data_uri("png", encode(splits.test.images[index])) if splits and is_same else "",
        )
        for index in tested.mistakes(MISTAKES)
    ]
