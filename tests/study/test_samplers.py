"""What a sampler is shown of a study."""

import statistics

import optuna
import pytest
from optuna.trial import TrialState

from fer_search.study.samplers import PerTrialSampler

GOOD, WEAK = 0.1, 0.9


def tried(study, x, score, state):
    """A trial at `x` that has reached `score`, and goes on or has ended."""
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
