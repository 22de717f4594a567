import sqlite3

import optuna
import pytest
import sqlalchemy

from fer_search.study.draft import Draft
from fer_search.study.studies import open_storage


@pytest.fixture
def trial():
    storage = open_storage("sqlite:///o.db")
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    trial = study.ask()
    trial.storage = Draft(storage, trial.study, trial._trial_id)
    return trial


def stored():
    with sqlite3.connect("o.db") as connection:
        return [name for (name,) in connection.execute("SELECT param_name FROM trial_params")]


def ask(trial):
    return {
        "rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
        "kind": trial.suggest_categorical("kind", ["a", "b", None]),
        "depth": trial.suggest_int("depth", 0, 5),
    }


def test_writes_what_optuna_would_have_written(trial):
    values = ask(trial)
    assert stored() == []
    assert ask(trial) == values
    trial.storage.write()
    again = optuna.load_study(study_name="s", storage="sqlite:///o.db").trials[0]
    assert again.params == values
    assert list(again.params) == ["rate", "kind", "depth"]
    distributions = optuna.distributions
    assert again.distributions == {
        "rate": distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "kind": distributions.CategoricalDistribution(["a", "b", None]),
        "depth": distributions.IntDistribution(0, 5),
    }


def test_a_locked_database_leaves_nothing_half_written_and_is_tried_again(trial):
    hurried = {"connect_args": {"timeout": 0.1}}
    storage = optuna.storages.RDBStorage("sqlite:///o.db", engine_kwargs=hurried)
    trial.storage = Draft(storage, trial.study, trial._trial_id)
    values = ask(trial)
    other = sqlite3.connect("o.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
        trial.storage.write()
    other.execute("ROLLBACK")
    assert stored() == []
    trial.storage.write()
    trial.storage.write()
    assert optuna.load_study(study_name="s", storage="sqlite:///o.db").trials[0].params == values


def test_what_is_there_already_stays(trial):
    """A response was lost, so that the same values are written again."""
    first = ask(trial)
    trial.storage.write()
    again = Draft(trial.storage._storage, trial.study, trial._trial_id)
    distribution = optuna.distributions.IntDistribution(0, 9)
    again.set_trial_param(trial._trial_id, "depth", 9, distribution)
    again.set_trial_param(trial._trial_id, "width", 9, distribution)
    again.write()
    assert optuna.load_study(study_name="s", storage="sqlite:///o.db").trials[0].params == (
        first | {"width": 9}
    )


def test_choices_that_other_trials_do_not_have_are_refused(trial):
    ask(trial)
    trial.storage.write()
    other = trial.study.ask()
    other.storage = Draft(trial.storage._storage, trial.study, other._trial_id)
    with pytest.raises(ValueError, match="dynamic value space"):
        other.suggest_categorical("kind", ["c"])
    other.storage.write()
    assert trial.study.trials[1].params == {}
