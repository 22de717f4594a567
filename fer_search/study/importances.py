"""How much each parameter mattered in a study, of complete and of pruned trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

FEWEST_TRIALS, FEWEST_BEST = 8, 10
"""Importances are told of at least so many trials, and of the best tenth, or so many, of them."""


def importances_of(ended: Sequence[FrozenTrial]) -> dict[str, float]:
    """By how much the best trials differ from all in each parameter, as shares of 1.

    PED-ANOVA (https://arxiv.org/abs/2304.10255), which includes conditional parameters. It asks
    only who is among the best, so pruned trials count, with their last value: without them
    nobody could see what they were pruned for.

    Args:
        ended: Finished trials that have a value.

    Returns:
        Shares by parameter; nothing before `FEWEST_TRIALS` trials are finished.
    """
    if len(ended) < FEWEST_TRIALS:
        return {}
    best = min(0.5, max(0.1, FEWEST_BEST / len(ended)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of branches with a single trial, of the evaluator
            return optuna.importance.get_param_importances(
                _of_complete(ended),
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best),
            )
    except (ValueError, RuntimeError):  # all values alike: nothing to explain
        return {}


def _of_complete(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study in memory in which all these trials are complete."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=trial.value
            )
            for trial in trials
        ]
    )
    return study
