from fer_search.trials import TrialSummary, best_of, differing, main_parameters


def test_the_best_trial_is_complete_and_the_earliest_of_equals():
    def trial(number, state, value):
        return TrialSummary(number=number, state=state, value=value, params={}, curve={})

    trials = [
        trial(0, "PRUNED", 0.9), trial(1, "COMPLETE", 0.5), trial(2, "COMPLETE", 0.5),
        trial(3, "RUNNING", None),
    ]  # fmt: skip
    assert best_of(trials).number == 1
    assert best_of(trials[:1]) is None


def test_parameters_that_differ_come_by_importance_then_by_how_many_trials_have_them():
    params = [
        {"same": 1, "often": 1, "rare": 1, "weighty": 1, "mixed": "auto"},
        {"same": 1, "often": 2, "rare": 2, "weighty": 1, "mixed": 1},
        {"same": 1, "often": 3, "weighty": 2, "mixed": True},
    ]
    trials = [
        TrialSummary(number=i, state="COMPLETE", value=0.1, params=each, curve={})
        for i, each in enumerate(params)
    ]
    other = TrialSummary(number=9, state="PRUNED", value=0.1, params={"same": 2}, curve={})
    assert differing([*trials, other], {"weighty": 0.5}) == ["weighty", "often", "mixed", "rare"]
    assert differing([other], {}) == []


def test_a_custom_hypermodel_has_columns_of_its_own():
    def trial(**params):
        return TrialSummary(number=0, state="COMPLETE", value=0.1, params=params, curve={})

    assert main_parameters([trial(dropout=0.1, optimizer="sgd", backbone="tiny")]) == [
        "backbone", "optimizer",
    ]  # fmt: skip
    assert main_parameters([trial(filters=8), trial(rate=0.1)]) == ["filters", "rate"]
    assert main_parameters([]) == []
