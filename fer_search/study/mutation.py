"""Proposals near the best trials: a few parameters change a little.

This follows PriorBand (Mallik et al., NeurIPS 2023, https://arxiv.org/abs/2306.12370), which
mutates its incumbent in the same way. A search of fifty trials over twenty parameters is too short
to learn where each of them belongs; it is long enough to get there from points that are known to be
good. docs/decisions/first-points.md shows what this gains in real training.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
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

_CHANGED = 0.25
"""Share of a parent's parameters that are mutated; at least one changes."""

_DEVIATION = 0.2
"""Standard deviation around the parent's value, as a share of the range (of its logarithm's)."""

_WEIGHTS = (1.0, 0.5, 0.25)
"""Relative probabilities of the best trials to be the parent, best first."""

_MOST_DRAWS = 1000
"""Draws until a value is taken to be the only one: floats cannot tell neighbours of 2^60 apart."""

_RANDOM = 0.1
"""Share of trials without a parent, so that points far from the best stay within reach."""


class MutationSampler(BaseSampler):
    """Proposes one trial by mutating one of the best.

    Args:
        seed: Seed of this trial.
        n_random: Number of trials at the start of the study that have no parent.
    """

    def __init__(self, seed: int, *, n_random: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)
        self._n_random = n_random
        self._parent: Mapping[str, Any] = {}
        self._changed: Container[str] = ()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Choose the parent and what to change in it; parameters are sampled one by one."""
        if trial.number >= self._n_random and self._rng.random() >= _RANDOM:
            parent = self._chosen(study)
            if parent:
                self._parent = parent.params
                self._changed = self._some(parent.distributions)
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing; all parameters are sampled independently."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the parent's value or one near it; any value if there is no parent to follow."""
        if param_name not in self._parent:
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        value = _allowed(self._parent[param_name], param_distribution)
        if param_name not in self._changed:
            return value
        return _mutated(value, param_distribution, self._rng)

    def _chosen(self, study: optuna.Study) -> FrozenTrial | None:
        """Choose one of the best trials, or of the running ones as long as none has a score."""
        begun = [t for t in study.get_trials(deepcopy=False) if t.params]
        scored = [t for t in begun if t.state == TrialState.COMPLETE]
        scored.sort(
            key=lambda t: float(t.value or 0), reverse=study.direction == StudyDirection.MAXIMIZE
        )
        best = (scored or [t for t in begun if t.state == TrialState.RUNNING])[: len(_WEIGHTS)]
        if not best:
            return None
        weights = np.array(_WEIGHTS[: len(best)])
        return best[self._rng.choice(len(best), p=weights / weights.sum())]

    def _some(self, spreads: Mapping[str, BaseDistribution]) -> Sequence[str]:
        """Choose which parameters to mutate.

        A choice of n is mutated as often as drawing it again would change it: 1/n less often.
        """
        names = [name for name, spread in sorted(spreads.items()) if not spread.single()]
        others = {
            name: 1 - 1 / len(spread.choices)
            for name, spread in spreads.items()
            if isinstance(spread, CategoricalDistribution)
        }
        some = [name for name in names if self._rng.random() < _CHANGED * others.get(name, 1)]
        return some or list(self._rng.permutation(names)[:1])


def _mutated(value: Any, spread: BaseDistribution, rng: np.random.Generator) -> Any:
    """Draw another value: any other choice, or in a range from a truncated normal around `value`.

    Args:
        value: A value that `spread` allows.
        spread: The distribution; if it allows only `value`, that is returned.
        rng: Generator to draw with.
    """
    if spread.single():
        return value
    if isinstance(spread, CategoricalDistribution):
        others = [choice for choice in spread.choices if choice != value] or [value]
        return others[rng.integers(len(others))]
    assert isinstance(spread, (IntDistribution, FloatDistribution))  # there is no other kind
    scale, back = (math.log, math.exp) if spread.log else (float, float)
    half = (spread.step or 0) / 2  # ends of a stepped range are as likely as the rest
    low, high = scale(spread.low - half), scale(spread.high + half)
    for _ in range(_MOST_DRAWS):
        drawn = rng.normal(scale(value), _DEVIATION * (high - low))
        if low <= drawn <= high and (other := _allowed(back(drawn), spread)) != value:
            return other
    return value


def _allowed(value: Any, spread: BaseDistribution) -> Any:
    """Return the nearest allowed value: a custom HyperModel may change a range over time."""
    if isinstance(spread, CategoricalDistribution):
        return value
    assert isinstance(spread, (IntDistribution, FloatDistribution))
    if spread.step:
        value = spread.low + round((value - spread.low) / spread.step) * spread.step
    value = min(max(value, spread.low), spread.high)
    return int(value) if isinstance(spread, IntDistribution) else float(value)
