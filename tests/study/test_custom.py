import re
import sys
import types
from pathlib import Path

import keras
import keras_tuner
import pytest

from fer_search.config import SearchConfig
from fer_search.errors import HyperModelError, TrialFailed
from fer_search.model.custom_training import check_network
from fer_search.study import custom

ROOT = Path(__file__).parents[2]

MODULE = """
import keras_tuner

class Mine(keras_tuner.HyperModel):
    def build(self, hp):
        return hp.Int("units", 1, 9)

class Greedy(keras_tuner.HyperModel):
    def __init__(self, appetite):
        super().__init__()

instance = Mine()

def build(hp):
    return hp.Choice("kind", ["a", "b"])

number = 3

def impossible(hp):
    raise ValueError("negative size")

def buggy(hp):
    return layers.Dense(7)

def hopeless(hp):
    raise keras_tuner.errors.FailedTrialError("too large")

class Fails(Mine):
    def fit(self, hp, model, *args, **kwargs):
        raise keras_tuner.errors.FailedTrialError("no good")
"""


@pytest.fixture(autouse=True)
def module(own_home):
    (own_home / "someones.py").write_text(MODULE)


def search(hypermodel):
    return SearchConfig(hypermodel=hypermodel, image_sizes="48")


@pytest.mark.parametrize(
    ("name", "value"), [("someones:Mine", 1), ("someones:instance", 1), ("someones:build", "a")]
)
def test_a_class_an_instance_and_a_function_are_hypermodels(name, value):
    hypermodel = custom.find(search(name))
    assert isinstance(hypermodel, keras_tuner.HyperModel)
    assert hypermodel.build(keras_tuner.HyperParameters()) == value
    assert custom.example(search(name)) == value


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.at:All", "no module named nowhere"),
        ("someones:Missing", "someones has no Missing"),
        ("someones:number", "is of type int"),
        ("someones:Greedy", "cannot be instantiated: .*appetite"),
    ],
)
def test_what_is_no_hypermodel_is_refused(name, said):
    with pytest.raises(HyperModelError, match=said):
        custom.find(search(name))


@pytest.mark.parametrize(
    ("name", "said"), [("impossible", "negative size"), ("hopeless", "too large")]
)
def test_values_that_make_no_model_lose_their_trial_only(name, said, caplog):
    wanted = search(f"someones:{name}")
    with pytest.raises(TrialFailed, match=said) as failure:
        custom.build(custom.find(wanted), keras_tuner.HyperParameters(), wanted)
    assert failure.value.kind == "hypermodel"
    assert f"in {name}" in caplog.text, "where it happened is not told"
    with pytest.raises(HyperModelError, match=said):
        custom.example(wanted)


def test_a_fit_that_gives_up_loses_its_trial_only():
    hypermodel = custom.find(search("someones:Fails"))
    with pytest.raises(TrialFailed, match="no good"):
        custom.fit(hypermodel, keras_tuner.HyperParameters(), "a model", x=1)


def test_a_model_without_an_input_takes_the_size_of_the_search():
    wanted = search("someones:build")
    layers = [keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")]
    hypermodel = types.SimpleNamespace(build=lambda _hp: keras.Sequential(layers))
    model = custom.build(hypermodel, keras_tuner.HyperParameters(), wanted)
    assert (model.input_shape, model.output_shape) == ((None, 48, 48, 1), (None, 7))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_at_all", "No module named 'nowhere_at_all' .*broken.py, line 1: import"),
        ("x = 1\nx.y", "AttributeError: .*broken.py, line 2: x.y"),
        ("def build(hp)\n", r"SyntaxError: expected ':' \(broken.py, line 1\)"),
    ],
)
def test_a_module_that_cannot_be_imported_says_in_which_line(own_home, text, said):
    (own_home / "broken.py").write_text(text)
    sys.modules.pop("broken", None)
    with pytest.raises(HyperModelError, match=f"broken cannot be imported: .*{said}"):
        custom.find(search("broken:build"))


def test_a_bug_in_building_is_told_before_anything_is_begun():
    with pytest.raises(HyperModelError, match=r"NameError: .*someones.py, line \d+: return laye"):
        custom.example(search("someones:buggy"))


def test_the_example_of_the_readme_is_a_hypermodel(own_home):
    (block,) = re.findall(r"```python\n(# faces.py.*?)```", (ROOT / "README.md").read_text(), re.S)
    (own_home / "faces.py").write_text(block)
    check_network(custom.example(search("faces:build")), "the README's example")
