"""Proposals near the best trials."""

import collections
import math
import statistics

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from fer_search.study import mutation
from fer_search.study.mutation import MutationSampler
from fer_search.study.samplers import PerTrialSampler

RANGES = [
    CategoricalDistribution(["adamw", "sgd"]),
    FloatDistribution(0.1, 0.6),
    FloatDistribution(1e-5, 1e-2, log=True),
    FloatDistribution(0.0, 1.0, step=0.25),
    IntDistribution(0, 5),
    IntDistribution(32, 512, step=32),
    IntDistribution(1, 1000, log=True),
]


@given(st.sampled_from(RANGES), st.integers(0, 2**32 - 1))
def test_what_is_mutated_stays_within_its_range(spread, seed):
    rng = np.random.default_rng(seed)
    value = RandomValue(seed).of(spread)
    near = mutation._mutated(value, spread, rng)
    assert near != value
    assert spread._contains(spread.to_internal_repr(near))
    assert type(near) is type(value)


class RandomValue:
    def __init__(self, seed):
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    def of(self, spread):
        return self._study.ask({"x": spread}).params["x"]


@pytest.mark.parametrize(
    ("spread", "value", "scale", "width"),
    [
        (FloatDistribution(0, 10), 5.0, float, 10),
        (FloatDistribution(1e-4, 1e4, log=True), 1.0, math.log, math.log(1e8)),
        (IntDistribution(0, 1000), 500, float, 1000),
    ],
)
def test_it_is_near_the_value_on_the_scale_of_the_range(spread, value, scale, width):
    rng = np.random.default_rng(0)
    near = [scale(mutation._mutated(value, spread, rng)) for _ in range(2000)]
    assert statistics.mean(near) == pytest.approx(scale(value), abs=0.02 * width)
    # 0.2, less because both ends are cut off
    assert statistics.stdev(near) == pytest.approx(0.195 * width, rel=0.05)


def test_both_ends_of_a_range_in_steps_are_as_likely_as_the_rest():
    rng = np.random.default_rng(0)
    drawn = collections.Counter(
        mutation._mutated(2, IntDistribution(0, 4), rng) for _ in range(3000)
    )
    # A normal has 0.24 between 0.5 and 1.5 deviations, 0.06 from there to 2.5; 2 is never drawn.
    for end, inner in ((0, 1), (4, 3)):
        assert drawn[end] == pytest.approx(300, rel=0.15)
        assert drawn[inner] == pytest.approx(1200, rel=0.15)


X = FloatDistribution(0, 100)


def study_of(scores, direction="maximize", states=None):
    """A study of trials whose `x` is their number."""
    study = optuna.create_study(direction=direction)
    for number, score in enumerate(scores):
        state = (states or {}).get(number, TrialState.COMPLETE)
        study.add_trial(
            optuna.trial.create_trial(
                state=state, params={"x": float(number)}, distributions={"x": X},
                value=score if state == TrialState.COMPLETE else None,
            )
        )  # fmt: skip
    return study


def parents(study, n=700):
    """How often each trial is the parent of a new one without changes; None counts no parent."""
    chosen = collections.Counter()
    more = optuna.trial.create_trial(state=TrialState.RUNNING)
    more.number = len(study.trials)
    for seed in range(n):
        sampler = MutationSampler(seed)
        sampler.infer_relative_search_space(study, more)
        value = sampler.sample_independent(study, more, "x", X)
        chosen[int(value) if value == int(value) else None] += 1
    return chosen


@pytest.fixture
def unchanged(monkeypatch):
    monkeypatch.setattr(MutationSampler, "_some", lambda sampler, spreads: ())


@pytest.mark.parametrize(("direction", "best"), [("maximize", (3, 1, 2)), ("minimize", (0, 4, 2))])
def test_the_best_three_are_the_parents_and_some_trials_have_none(unchanged, direction, best):
    chosen = parents(study_of([0.1, 0.4, 0.3, 0.5, 0.2], direction))
    assert set(chosen) == {*best, None}
    first, second, third = (chosen[number] for number in best)
    assert first / second == pytest.approx(2, rel=0.3)
    assert second / third == pytest.approx(2, rel=0.4)
    assert chosen[None] == pytest.approx(70, rel=0.3)


def test_failed_trials_are_no_parents(unchanged):
    chosen = parents(study_of([0.1, None], states={1: TrialState.FAIL}), n=60)
    assert set(chosen) == {0, None}


def test_running_trials_are_parents_until_one_has_a_score(unchanged):
    study = optuna.create_study(sampler=MutationSampler(0))
    for at in (1.0, 2.0):
        study.enqueue_trial({"x": at})
        last = study.ask()
        last.suggest_float("x", 0, 100)
    assert {1, 2} <= set(parents(study, n=40))
    study.tell(last, 1.0)
    assert set(parents(study, n=40)) == {2, None}


@pytest.mark.parametrize(
    ("value", "spread", "allowed"),
    [
        (4, IntDistribution(0, 9, step=3), 3),
        (9, IntDistribution(0, 8, step=4), 8),
        (1, IntDistribution(2, 8), 2),
        (0.3, FloatDistribution(0, 1, step=0.25), 0.25),
        (2.0, FloatDistribution(0, 1), 1.0),
        ("a", CategoricalDistribution(["a", "b"]), "a"),
    ],
)
def test_a_value_that_the_range_of_now_does_not_have_becomes_the_nearest(
    unchanged, monkeypatch, value, spread, allowed
):
    monkeypatch.setattr(mutation, "_RANDOM", 0.0)
    study = optuna.create_study()
    trial = optuna.trial.create_trial(
        params={"x": value}, distributions={"x": CategoricalDistribution([value])}, value=1.0
    )
    study.add_trial(trial)
    sampler = MutationSampler(0)
    trial.number = 1
    sampler.infer_relative_search_space(study, trial)
    given = sampler.sample_independent(study, trial, "x", spread)
    assert given == allowed
    assert type(given) is type(allowed)


@pytest.mark.parametrize(
    "spreads",
    [
        {"a": X},
        {"a": CategoricalDistribution([0, 256, 512])},
        {"a": IntDistribution(1, 3), "b": IntDistribution(0, 1)},
        {"a": FloatDistribution(0, 1, step=0.25)},
        {"a": RANGES[0], "b": RANGES[2]},
    ],
)
def test_a_child_is_never_its_parent_again(monkeypatch, spreads):
    monkeypatch.setattr(mutation, "_RANDOM", 0.0)
    study = optuna.create_study()
    parent = study.ask(spreads)
    study.tell(parent, 1.0)
    for seed in range(50):
        study.sampler = MutationSampler(seed)
        child = study.ask(spreads)
        study.tell(child, state=TrialState.FAIL)
        assert child.params != parent.params


def test_about_a_quarter_of_the_parameters_change():
    names = [f"x{n}" for n in range(2000)]
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(dict.fromkeys(names, 0.5))
    for seed in (0, 1):
        study.sampler = MutationSampler(seed)
        trial = study.ask()
        values = [trial.suggest_float(name, 0, 1) for name in names]
        study.tell(trial, 1.0)
    assert statistics.mean(value != 0.5 for value in values) == pytest.approx(0.25, abs=0.03)


def test_without_good_points_the_first_trials_are_random():
    def n_near(after_good_ones):
        sampler = PerTrialSampler("mutation", 1, after_good_ones=after_good_ones)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.enqueue_trial({"x": 0.5, "y": 0.5})
        near = 0
        for _ in range(10):
            trial = study.ask()
            near += 0.5 in (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1))
            study.tell(trial, 0.0 if trial.number else 1.0)
        return near

    assert n_near(after_good_ones=True) > 3
    assert n_near(after_good_ones=False) == 1, "the point itself"


@pytest.mark.parametrize(
    ("spread", "value"),
    [
        (CategoricalDistribution([0, False]), 0),
        (IntDistribution(2**60, 2**60 + 1), 2**60),
        (IntDistribution(3, 3), 3),
    ],
)
def test_what_cannot_change_stays(spread, value):
    assert mutation._mutated(value, spread, np.random.default_rng(0)) == value
