import keras_tuner
import optuna
import pytest

from fer_search.study.hyperparameters import OptunaHyperParameters


@pytest.fixture
def trial():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        pytest.param(lambda hp: hp.Choice("x", ["a", "b"]), str, id="choice"),
        pytest.param(lambda hp: hp.Choice("x", [1, 2]), int, id="int_choice"),
        pytest.param(lambda hp: hp.Boolean("x"), bool, id="boolean"),
        pytest.param(lambda hp: hp.Int("x", 1, 9), int, id="int"),
        pytest.param(lambda hp: hp.Int("x", 1, 10, step=4), int, id="int_step"),
        pytest.param(lambda hp: hp.Int("x", 1, 64, sampling="log"), int, id="int_log"),
        pytest.param(lambda hp: hp.Int("x", 1, 64, step=2, sampling="log"), int, id="int_log_step"),
        pytest.param(lambda hp: hp.Float("x", 0.0, 1.0), float, id="float"),
        pytest.param(lambda hp: hp.Float("x", 0.0, 1.0, step=0.1), float, id="float_step"),
        pytest.param(lambda hp: hp.Float("x", 1e-5, 1e-1, sampling="log"), float, id="float_log"),
        pytest.param(
            lambda hp: hp.Float("x", 1e-5, 1e-1, step=10, sampling="log"),
            float,
            id="float_log_step",
        ),
        pytest.param(
            lambda hp: hp.Float("x", 1e-5, 1e-1, sampling="reverse_log"), float, id="reverse_log"
        ),
    ],
)
def test_optuna_answers_every_kind_within_its_range(trial, ask, kind):
    hp = OptunaHyperParameters(trial)
    value = ask(hp)
    assert type(value) is kind
    assert list(trial.params) == ["x"]
    assert ask(hp) == value
    (declared,) = hp.space
    assert 0 <= declared.value_to_prob(value) <= 1


@pytest.mark.parametrize(
    "ask",
    [lambda hp: hp.Fixed("x", 3), lambda hp: hp.Choice("x", [3]), lambda hp: hp.Int("x", 3, 3)],
)
def test_a_single_value_is_no_question(trial, ask):
    assert ask(OptunaHyperParameters(trial)) == 3
    assert trial.params == {}


def test_an_inactive_parameter_is_none_and_not_asked_for(trial):
    hp = OptunaHyperParameters(trial)
    chosen = hp.Choice("parent", ["a", "b"])
    with hp.conditional_scope("parent", ["b" if chosen == "a" else "a"]):
        assert hp.Int("child", 1, 9) is None
    assert list(trial.params) == ["parent"]


def test_a_copy_asks_the_same_trial(trial):
    hp = OptunaHyperParameters(trial)
    x = hp.Float("x", 0, 1)
    twin = hp.copy()
    assert twin.Float("x", 0, 1) == x
    y = twin.Float("y", 0, 1)
    assert trial.params == {"x": x, "y": y}
    assert "y" not in hp.values


def test_active_values_are_asked_for_not_drawn(trial):
    hp = OptunaHyperParameters(trial)
    hp.Float("x", 0, 1)
    hp.values.clear()
    hp.ensure_active_values()
    assert hp.values == trial.params


def test_a_hypermodel_that_is_not_ours_is_answered(trial):
    class Theirs(keras_tuner.HyperModel):
        def build(self, hp):
            return hp.Int("units", 8, 64, step=8), hp.Float("rate", 1e-4, 1e-2, sampling="log")

    units, rate = Theirs().build(OptunaHyperParameters(trial))
    assert trial.params == {"units": units, "rate": rate}
