"""Samplers, which propose parameters, pruners, which stop weak trials, and the seed of a trial.

A seeded Optuna sampler restarts its generator in every process, so a resumed study would propose
what it has already tried. `PerTrialSampler` therefore makes a new sampler for each trial, seeded
from the study's seed and the trial's number: proposals depend on what is in the storage, the
study's record and its trials, and on nothing else.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from fer_search.preconditions import check_extra
from fer_search.study.mutation import MutationSampler


def trial_seed(seed: int, number: int) -> int:
    """Derive the seed of a trial, in [0, 2^32), from the study's seed and the trial's number."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _mutation(seed: int, number: int, *, n_random: int = 10) -> BaseSampler:
    return MutationSampler(trial_seed(seed, number), n_random=n_random)


def _tpe(seed: int, number: int, *, n_random: int = 10) -> BaseSampler:
    """Tree-structured Parzen estimator, joint within each branch of the space (`group`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            seed=trial_seed(seed, number),
            multivariate=True,
            group=True,
            n_startup_trials=n_random,
        )


def _random(seed: int, number: int) -> BaseSampler:
    return RandomSampler(seed=trial_seed(seed, number))


def _qmc(seed: int, number: int) -> BaseSampler:
    """Sobol's sequence over the parameters of the first trial; others are drawn at random.

    All trials go through one sequence, so they share the study's seed; the storage keeps count.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return QMCSampler(
            scramble=True,
            seed=seed,
            independent_sampler=_random(seed, number),
            warn_independent_sampling=False,
        )


def _gp(seed: int, number: int) -> BaseSampler:
    """Gaussian process over the parameters that all trials share; others are drawn at random.

    Raises:
        ConfigError: If PyTorch, which Optuna's Gaussian process needs, is missing.
    """
    check_extra("sampler=gp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return GPSampler(seed=trial_seed(seed, number), independent_sampler=_random(seed, number))


SAMPLERS: Mapping[str, Callable[[int, int], BaseSampler]] = {
    "mutation": _mutation,  # https://arxiv.org/abs/2306.12370
    "tpe": _tpe,  # https://papers.nips.cc/paper/4443
    "random": _random,
    "qmc": _qmc,  # https://jmlr.org/papers/v13/bergstra12a.html, section 5
    "gp": _gp,  # https://arxiv.org/abs/1807.02811
}
"""Samplers of one trial by name, as functions of the study's seed and the trial's number."""

_AFTER_GOOD_ONES: Mapping[str, Callable[[int, int], BaseSampler]] = {
    "mutation": functools.partial(_mutation, n_random=0),
    "tpe": functools.partial(_tpe, n_random=2),
}
"""The same for studies that try known points first: what is near them beats random points."""

PRUNERS: Mapping[str, Callable[[int], BasePruner]] = {
    "asha": lambda epochs: SuccessiveHalvingPruner(  # https://arxiv.org/abs/1810.05934
        min_resource=min(2, epochs), reduction_factor=2
    ),
    "hyperband": lambda epochs: HyperbandPruner(  # https://jmlr.org/papers/v18/16-558.html
        min_resource=min(2, epochs), max_resource=epochs, reduction_factor=3
    ),
    "median": lambda epochs: MedianPruner(n_startup_trials=5, n_warmup_steps=min(2, epochs)),
    "none": lambda epochs: NopPruner(),
}
"""Pruners by name, as functions of the most epochs a trial may train. docs/decisions/pruner.md
explains the choice of asha and of halves."""


class PerTrialSampler(BaseSampler):
    """Uses a new sampler of one kind for each trial, seeded by the trial's number.

    It is made with the trial, so a study can be read where the sampler's package is missing.

    Args:
        name: A key of `SAMPLERS`.
        seed: Seed of the study.
        after_good_ones: Whether the study begins with points that are known to be good.
    """

    def __init__(self, name: str, seed: int, *, after_good_ones: bool = False) -> None:
        self._make = SAMPLERS[name]
        if after_good_ones:
            self._make = _AFTER_GOOD_ONES.get(name, self._make)
        self._seed = seed
        self._sampler: BaseSampler | None = None  # of the latest trial

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make a new sampler for `trial`."""
        self._sampler = self._make(self._seed, trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Ask this trial's sampler."""
        assert self._sampler
        reads_scores = isinstance(self._sampler, (MutationSampler, TPESampler))
        self._snapshot = _whole(study, as_reached=reads_scores)
        return self._sampler.infer_relative_search_space(self._snapshot, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Ask this trial's sampler."""
        assert self._sampler
        return self._sampler.sample_relative(self._snapshot, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Ask this trial's sampler."""
        assert self._sampler
        return self._sampler.sample_independent(
            self._snapshot, trial, param_name, param_distribution
        )

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell this trial's sampler."""
        if self._sampler:
            self._sampler.after_trial(study, trial, state, values)


def _whole(study: optuna.Study, *, as_reached: bool) -> Any:
    """Return the study as it is now, with all trials by their states or by what they have reached.

    The Hyperband pruner shows a sampler only the trials of one of its brackets: with a third of
    them each, no sampler gets far in a study of 50 trials.
    """
    return _Snapshot(getattr(study, "_study", study), as_reached=as_reached)


class _Snapshot:
    """A study at one moment, for a sampler that would otherwise read all trials a dozen times."""

    def __init__(self, study: optuna.Study, *, as_reached: bool) -> None:
        self._now, self._trials = study, study.get_trials(deepcopy=False)
        if as_reached:
            self._trials = list(map(_so_far, self._trials))
        self.direction, self.directions = study.direction, study.directions  # asked for each trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """Return the trials of that moment in these states; `use_cache` makes no difference."""
        chosen = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    _get_trials = get_trials


def _so_far(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as if it had completed with the best value that it has reached.

    TPE ignores running trials and ranks every completed trial above all pruned ones. With several
    workers it would stay near the trials that end first, which are the weakest; see
    docs/decisions/first-points.md.
    """
    if trial.state not in (TrialState.RUNNING, TrialState.PRUNED) or not trial.intermediate_values:
        return trial
    ended = copy.copy(trial)
    ended.state, ended.value = TrialState.COMPLETE, max(trial.intermediate_values.values())
    return ended
