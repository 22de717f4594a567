import pytest

from fer_search.cost import best_so_far, cost_of, pruning, seconds_at_work
from fer_search.trials import TrialSummary


def trial(number, state, value, n_epochs, started=None, ended=None):
    curve = {epoch: 0.1 for epoch in range(1, n_epochs + 1)}
    return TrialSummary(
        number=number, state=state, value=value, params={}, curve=curve, started=started,
        ended=ended,
    )  # fmt: skip


def test_a_running_trial_costs_until_now_and_a_waiting_one_nothing():
    trials = [
        trial(0, "COMPLETE", 0.5, 3, 100, 130),
        trial(1, "RUNNING", None, 2, 120),
        trial(2, "WAITING", None, 0),
    ]
    whole = cost_of(trials, now=200)
    assert (whole.trials, whole.epochs, whole.seconds) == (3, 5, 110)


@pytest.mark.parametrize(
    ("lengths", "expected", "saved"),
    [
        pytest.param([10, 20], 15, 13 + 0, id="mean_of_the_complete"),
        pytest.param([], 20, 18 + 4, id="none_complete"),
    ],
)
def test_pruning_saves_what_complete_trials_train_on_average(lengths, expected, saved):
    trials = [trial(i, "COMPLETE", 0.5, n) for i, n in enumerate(lengths)]
    trials += [trial(7, "PRUNED", 0.1, 2), trial(8, "PRUNED", 0.1, 16), trial(9, "FAIL", None, 1)]
    spared = pruning(trials, most=20)
    assert (spared.trained, spared.expected, spared.saved) == (18, expected, saved)


def test_the_best_so_far_leaves_pauses_out_and_counts_what_ran_at_once_once():
    trials = [
        trial(0, "PRUNED", 0.9, 1, 0, 10),
        trial(1, "COMPLETE", 0.3, 1, 5, 20),
        trial(2, "COMPLETE", 0.2, 1, 1000, 1010),  # after a pause
        trial(3, "COMPLETE", 0.4, 1, 1005, 1025),
        trial(4, "FAIL", None, 1, 1025, 1030),
        trial(5, "RUNNING", None, 1, 1025),
    ]
    assert best_so_far(trials, now=2000) == [(20, 2, 0.3), (30, 3, 0.3), (45, 4, 0.4)]
    assert best_so_far([], now=0) == []
    assert seconds_at_work(trials, now=2000) == 20 + 1000
