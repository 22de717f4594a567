"""How much each parameter matters in a study, by its complete and pruned trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

FEWEST_TRIALS, FEWEST_BEST = 8, 10
"""Fewest trials for which importances are computed, and fewest that count as the best of them,
which are a tenth if that is more, and never more than half."""


def importances_of(ended: Sequence[FrozenTrial]) -> dict[str, float]:
    """Compute how much the best trials differ from all in each parameter, as shares of 1.

    This is PED-ANOVA (https://arxiv.org/abs/2304.10255), which includes conditional parameters. It
    only needs to know which trials are among the best, so pruned trials count, with their last
    value: without them, the parameters that got them pruned would not show.

    Args:
        ended: Finished trials that have a value.

    Returns:
        Shares by parameter; empty before `FEWEST_TRIALS` trials or if all values are equal.
    """
    if len(ended) < FEWEST_TRIALS:
        return {}
    best = min(0.5, max(0.1, FEWEST_BEST / len(ended)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about branches with one trial, about the evaluator
            return optuna.importance.get_param_importances(
                _of_complete(ended),
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best),
            )
    except (ValueError, RuntimeError):  # all values alike: nothing to explain
        return {}


def _of_complete(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """Make an in-memory study in which all these trials are complete."""
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
