"""Proposals near the best trials: a few parameters change, a little.

What PriorBand (Mallik et al., NeurIPS 2023, https://arxiv.org/abs/2306.12370) does around its
incumbent. A search of fifty trials over twenty parameters is too short to learn where all of them
belong; it is long enough to walk there from points that are known to be good. How often and how far
was measured on real trainings: docs/decisions/first-points.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

_RANGES = (IntDistribution, FloatDistribution)

_CHANGED = 0.25
"""Share of a parent's parameters that are drawn anew."""

_DEVIATION = 0.2
"""Of what is drawn from the parent's value, as a share of the range (of its logarithm's)."""

_WEIGHTS = (1.0, 0.5, 0.25)
"""How likely the best trials are to be the parent, best first."""

_RANDOM = 0.1
"""Share of trials without a parent: what is far from the best stays within reach."""


class MutationSampler(BaseSampler):
    """Mutates one of the best trials; for one trial.

    Args:
        seed: Of this trial.
        n_random: Trials, counted from the study's first, that have no parent.
    """

    def __init__(self, seed: int, *, n_random: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._n_random = n_random
        self._parent: Mapping[str, Any] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Choose the parent; every parameter is then mutated by itself."""
        if trial.number >= self._n_random and self._rng.random() >= _RANDOM:
            self._parent = self._chosen(study)
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The parent's value or one near it; any value where there is no parent to follow."""
        value = self._parent.get(param_name)
        if param_name not in self._parent or not _is_within(value, param_distribution):
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        if self._rng.random() >= _CHANGED:
            return value
        return _mutated(value, param_distribution, self._rng)

    def _chosen(self, study: optuna.Study) -> Mapping[str, Any]:
        """Parameters of one of the best; of those that are running as long as none has a score."""
        begun = [t for t in study.get_trials(deepcopy=False) if t.params]
        scored = [t for t in begun if t.state == TrialState.COMPLETE]
        scored.sort(
            key=lambda t: float(t.value or 0), reverse=study.direction == StudyDirection.MAXIMIZE
        )
        best = (scored or [t for t in begun if t.state == TrialState.RUNNING])[: len(_WEIGHTS)]
        if not best:
            return {}
        weights = np.array(_WEIGHTS[: len(best)])
        return best[self._rng.choice(len(best), p=weights / weights.sum())].params


def _is_within(value: Any, spread: BaseDistribution) -> bool:
    """Ranges of a foreign HyperModel can change from trial to trial."""
    if isinstance(spread, _RANGES):
        return bool(spread.low <= value <= spread.high)
    return True


def _mutated(value: Any, spread: BaseDistribution, rng: np.random.Generator) -> Any:
    """Any choice; of a range, a normal around `value`, cut off at its ends."""
    if isinstance(spread, CategoricalDistribution):
        return spread.choices[rng.integers(len(spread.choices))]
    assert isinstance(spread, _RANGES)  # there is no other kind
    scale, back = (math.log, math.exp) if spread.log else (float, float)
    half = (spread.step or 0) / 2  # the ends of a range in steps are as likely as the rest
    low, high = scale(spread.low - half), scale(spread.high + half)
    while not low <= (drawn := rng.normal(scale(value), _DEVIATION * (high - low))) <= high:
        pass
    near = back(drawn)
    if spread.step:
        near = spread.low + round((near - spread.low) / spread.step) * spread.step
    near = min(max(near, spread.low), spread.high)
    return int(near) if isinstance(spread, IntDistribution) else near
