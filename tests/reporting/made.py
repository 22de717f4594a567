"""Handmade trials and predictions."""

import numpy as np

from fer_search.reporting.findings import Tested
from fer_search.results import Evaluation
from fer_search.trials import TrialSummary

HOSTILE = '<script>alert(1)</script> & "quoted" {{ 6 * 7 }}'


def evaluation(labels, skill, seed=0):
    """Predictions of a model that is right more often the higher `skill` is."""
    rng = np.random.default_rng(seed)
    right = np.eye(7)[labels] * (rng.random(len(labels)) < skill)[:, np.newaxis]
    answers = rng.dirichlet(np.ones(7), len(labels)) + 2 * right
    return Evaluation(labels, answers / answers.sum(axis=1, keepdims=True))


def answers(splits, *, trial=1, skill=0.6, origins=None):
    views = {n: evaluation(splits.test.labels, skill, seed=n) for n in (1, 2)}
    origins = splits.test.origins if origins is None else np.array(origins)
    return Tested(trial=trial, views=views, origins=origins)


def trial(number, state, value=None, failure=None):
    return TrialSummary(
        number=number, state=state, value=value,
        params={"backbone": "tiny", "dropout": 0.1 * number, "flip": number % 2 == 0},
        curve={epoch: 0.1 * epoch for epoch in range(1, 2 + number)},
        accuracy=value, failure=failure or {}, started=100.0 * number,
        ended=None if state == "RUNNING" else 100.0 * number + 60,
    )  # fmt: skip
