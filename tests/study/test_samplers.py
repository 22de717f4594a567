"""Samplers, what they see of a study, and pruners."""

import statistics

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fer_search.config import AUTO, PRUNERS, SAMPLERS, SearchConfig
from fer_search.study import samplers
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.samplers import PerTrialSampler
from fer_search.study.space import known_good, suggest
from fer_search.trial_config import TrialConfig
from tests.study.test_space import FULL, draw

GOOD, WEAK = 0.1, 0.9


def tried(study, x, score, state):
    """Add a trial at `x` that has reached `score` and is in `state`."""
    study.enqueue_trial({"x": x})
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(score, 1)
    if state == TrialState.COMPLETE:
        study.tell(trial, score)
    elif state == TrialState.PRUNED:
        study.tell(trial, state=state)


@pytest.mark.parametrize(("name", "n", "share"), [("mutation", 100, 0.5), ("tpe", 12, 0.7)])
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING])
def test_what_a_trial_has_reached_counts_however_far_it_is(state, name, n, share):
    proposed = []
    for seed in range(n):
        sampler = PerTrialSampler(name, seed, after_good_ones=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        tried(study, GOOD, 0.5, state)
        tried(study, WEAK, 0.2, TrialState.COMPLETE)
        for between in (0.35, 0.5, 0.65):
            tried(study, between, 0.1, TrialState.COMPLETE)
        proposed.append(study.ask().suggest_float("x", 0, 1))
    near = [abs(x - GOOD) < abs(x - WEAK) for x in proposed]
    assert statistics.mean(near) > share


def test_the_study_itself_stays_as_it_is():
    study = optuna.create_study(direction="maximize", sampler=PerTrialSampler("tpe", 1))
    tried(study, GOOD, 0.5, TrialState.RUNNING)
    tried(study, WEAK, 0.1, TrialState.PRUNED)
    study.ask().suggest_float("x", 0, 1)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "PRUNED", "RUNNING"]


def test_the_catalogues_have_the_names_of_the_config():
    assert (AUTO, *samplers.SAMPLERS) == SAMPLERS
    assert tuple(samplers.PRUNERS) == PRUNERS


def make_sampler(name, seed):
    if name == "gp":
        pytest.importorskip("torch", reason="the sampler gp needs PyTorch")
    return samplers.PerTrialSampler(name, seed)


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_every_sampler_gives_valid_trials(name):
    sampler = make_sampler(name, seed=3)
    configs = [config for _, config in draw(FULL, 25, sampler)]
    assert all(isinstance(config, TrialConfig) for config in configs)
    assert len({str(config) for config in configs}) == 25


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_the_same_seed_gives_the_same_suggestions(name):
    def drawn(seed):
        sampler = make_sampler(name, seed)
        return [config for _, config in draw(FULL, 14, sampler)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_the_best_trial_so_far_is_never_pruned(name, epochs):
    assert not any(pruned_at(name, epochs, [0.1 * n for n in range(1, 10)]))


@pytest.mark.parametrize("name", PRUNERS)
def test_hopeless_trials_are_pruned_early_by_all_pruners_but_none(name):
    ended = pruned_at(name, 20, [0.9] * 12 + [0.1] * 12)
    hopeless = [epoch for epoch in ended[12:] if epoch]
    assert not any(ended[:12])
    if name == "none":
        assert not hopeless
    else:
        assert len(hopeless) >= 9
        assert min(hopeless) <= 3


def pruned_at(name, epochs, values):
    """Epoch after which each trial of constant value was pruned, 0 if it was not."""
    study = optuna.create_study(
        study_name="s", direction="maximize", pruner=samplers.PRUNERS[name](epochs)
    )
    ended = []
    for value in values:
        trial = study.ask()
        pruned = 0
        for step in range(1, epochs + 1):
            trial.report(value, step)
            if trial.should_prune():
                pruned = step
                break
        state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if pruned else value, state=state)
        ended.append(pruned)
    return ended


@pytest.mark.parametrize("name", ["tpe", "qmc", "gp"])
def test_samplers_see_all_trials_whatever_bracket_they_are_in(name):
    study = optuna.create_study(
        study_name="s",
        pruner=samplers.PRUNERS["hyperband"](20),
        sampler=make_sampler(name, seed=3),
    )
    for number in range(24):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.suggest_float("y", 0, 1)
        study.tell(trial, number)
    spaces = []
    for _ in range(6):  # of all brackets
        trial = study.ask()
        spaces.append(set(trial.relative_params))
        study.tell(trial, 1.0)
    assert spaces == [{"x", "y"}] * 6


def test_branches_are_sampled_jointly():
    study = optuna.create_study(sampler=samplers.SAMPLERS["tpe"](1, 0))
    for number in range(20):
        trial = study.ask()
        suggest(OptunaHyperParameters(trial), search=FULL, seed=number)
        study.tell(trial, number)
    trial = study.ask()
    joint = set(trial.study.sampler.infer_relative_search_space(study, study.trials[-1]))
    assert {"vgg16_unfreeze_depth", "resnet50_unfreeze_depth", "sgd_learning_rate"} <= joint


def test_after_points_that_are_known_to_be_good_tpe_stays_near_the_best():
    search = SearchConfig(backbones="vgg16", image_sizes="48")
    good, other = known_good(search)
    names = ("optimizer", "imbalance", "is_mixed", "schedule", "batch_size", "vgg16_head_units")

    def alike(**how):
        study = optuna.create_study(sampler=samplers.PerTrialSampler("tpe", 1, **how))
        for point, value in ((other, 0.1), (good, 0.0)):
            study.enqueue_trial(point)
            suggest(OptunaHyperParameters(trial := study.ask()), search=search, seed=0)
            study.tell(trial, value)
        shares = []
        for _ in range(40):
            suggest(OptunaHyperParameters(trial := study.ask()), search=search, seed=0)
            shares.append(np.mean([trial.params[name] == good[name] for name in names]))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return np.mean(shares)

    assert alike(after_good_ones=True) > alike() + 0.1


def test_qmc_covers_a_range_evenly_across_processes():
    study = optuna.create_study()
    for number in range(17):  # a new sampler each time, as after a restart
        study.sampler = make_sampler("qmc", seed=3)
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, number)
    bins = [int(trial.params["x"] * 16) for trial in study.trials[1:]]
    assert sorted(bins) == list(range(16))
