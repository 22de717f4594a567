"""Who proposes parameters and who stops weak trials: two tables, and the seed of a trial.

A seeded Optuna sampler starts its generator anew in every process, so a resumed study would propose
what it has already tried. `PerTrialSampler` therefore makes a fresh sampler for each trial, seeded
from the study's seed and the trial's number: proposals depend on the trials that stand in the
storage and on nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler


def _tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator, joint within each branch of the space (`group`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,  # https://papers.nips.cc/paper/4443
    "random": lambda seed: RandomSampler(seed=seed),
}
"""Name -> sampler from a seed."""

PRUNERS: Mapping[str, Callable[[int], BasePruner]] = {
    "hyperband": lambda epochs: HyperbandPruner(  # https://jmlr.org/papers/v18/16-558.html
        min_resource=min(2, epochs), max_resource=epochs, reduction_factor=3
    ),
    "median": lambda epochs: MedianPruner(n_startup_trials=5, n_warmup_steps=min(2, epochs)),
    "none": lambda epochs: NopPruner(),
}
"""Name -> pruner from the most epochs a trial may train."""


def trial_seed(seed: int, number: int) -> int:
    """Derive the seed of a trial, in [0, 2^32), from the study's seed and the trial's number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


class PerTrialSampler(BaseSampler):
    """A fresh sampler of one kind for each trial, seeded by the trial's number.

    Args:
        make: Sampler from a seed, an entry of `SAMPLERS`.
        seed: Of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Start anew for `trial`."""
        self._sampler = self._make(trial_seed(self._seed, trial.number))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Ask this trial's sampler."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Ask this trial's sampler."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Ask this trial's sampler."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell this trial's sampler."""
        self._sampler.after_trial(study, trial, state, values)
