import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from strategies import search_configs, trial_configs

from fer_search.command_config import CleanConfig, ReportConfig
from fer_search.config import DEMO, SearchConfig, weights_for
from fer_search.errors import ConfigError
from fer_search.trial_config import TrialConfig


@given(trial_configs)
def test_a_trial_survives_the_round_trip(config):
    params = config.to_params()
    assert TrialConfig.from_params(params) == config
    as_mlflow_keeps_them = {name: str(value) for name, value in params.items()}
    assert TrialConfig.from_params(as_mlflow_keeps_them) == config


@given(search_configs)
def test_a_search_survives_the_round_trip(config):
    assert SearchConfig(**config.to_params()) == config


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param({"trials": "abc"}, "trials=abc: expected a whole number", id="not_a_number"),
        pytest.param({"trials": 0}, "trials=0: expected greater than or equal to 1", id="too_few"),
        pytest.param({"timeout": "nan"}, "timeout=nan", id="nan"),
        pytest.param({"backbones": "vgg61"}, "known: vgg16, resnet50, tiny", id="backbone"),
        pytest.param({"backbones": ","}, "backbones", id="no_backbone"),
        pytest.param({"sampler": "x"}, "known: auto, mutation, tpe, random, qmc, gp", id="sampler"),
        pytest.param({"pruner": "x"}, "known: asha, hyperband, median, none", id="pruner"),
        pytest.param({"precision": "int8"}, "known: auto, mixed_bfloat16", id="precision"),
        pytest.param({"register": "some"}, "known: all, best, none", id="register"),
        pytest.param({"image_sizes": "31"}, "greater than or equal to 32", id="small_image"),
        pytest.param({"image_sizes": "48,x"}, "image_sizes", id="image_words"),
        pytest.param({"image_sizes": ""}, "at least one size", id="no_image_size"),
        pytest.param({"workers": 0}, "workers=0", id="no_workers"),
        pytest.param({"workers": "many"}, "or 'auto'", id="worker_words"),
        pytest.param({"seed": -1}, "seed=-1", id="seed"),
        pytest.param({"study": "a/b"}, "study=a/b", id="study_name"),
        pytest.param({"study": ""}, "study=: expected letters and digits", id="empty_study"),
        pytest.param({"timeout": "soon"}, "timeout=soon: expected a number", id="no_number"),
        pytest.param({"data": ""}, "data=: expected some text", id="no_data"),
        pytest.param({"hypermodel": ".mine:Net"}, "hypermodel=.mine:Net", id="relative_module"),
        pytest.param(
            {"registered_model": "a:b"},
            "registered_model=a:b: expected a name without",
            id="model_name",
        ),
        pytest.param({"storage": "optuna.db"}, "not a database URL", id="no_url"),
        pytest.param({"storage": "redis://h"}, "supported: sqlite, postgresql", id="redis"),
        pytest.param({"storage": "sqlite://"}, "need a file", id="in_memory"),
        pytest.param({"storage": "sqlite:///:memory:"}, "need a file", id="in_memory_too"),
        pytest.param({"storage": "postgresql://u:p@h/d"}, "password", id="password"),
        pytest.param({"storage": "postgresql://h/d?password=x"}, "password", id="in_query"),
        pytest.param({"views": "3"}, "views=3: expected one of 1, 2, 10", id="views"),
        pytest.param({"trails": 3}, "trails is not a parameter; known: trials", id="misspelt"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong, said):
    with pytest.raises(ConfigError) as refusal:
        SearchConfig(**wrong)
    assert said in str(refusal.value)


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"apply": "perhaps"}, {"study": "a/b"}])
def test_a_clean_up_that_is_not_clearly_asked_for_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CleanConfig(**wrong)


def test_every_fault_is_named_at_once():
    with pytest.raises(ConfigError) as refusal:
        SearchConfig(trials="a", epochs="b", sampler="c")
    assert all(name in str(refusal.value) for name in ("trials=a", "epochs=b", "sampler=c"))


def test_an_impossible_trial_is_refused():
    with pytest.raises(ConfigError, match="unfreeze_depth=6"):
        TrialConfig(backbone="vgg16", unfreeze_depth=6)


def test_configs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        SearchConfig().trials = 3


def test_paths_are_meant_from_where_the_person_typed(tmp_path):
    (tmp_path / "faces").mkdir()
    for name in ("vgg16", "resnet50"):
        (tmp_path / f"{name}.h5").touch()
    config = SearchConfig(data="faces", weights="{backbone}.h5").anchored(tmp_path)
    assert config.data == str(tmp_path / "faces")
    assert config.storage == f"sqlite:///{tmp_path}/optuna.db"
    assert Path(weights_for("vgg16", config.weights)).exists()
    assert config.anchored(Path("/elsewhere")) == config


@pytest.mark.parametrize(
    "wrong", [{"data": "nowhere"}, {"weights": "no.h5"}, {"weights": "{backbone}.h5"}]
)
def test_a_missing_path_is_refused(tmp_path, wrong):
    (tmp_path / "vgg16.h5").touch()
    with pytest.raises(ConfigError, match="no such file or folder"):
        SearchConfig(**wrong).anchored(tmp_path)


def test_a_resume_takes_stored_settings_and_may_ask_for_more():
    stored = SearchConfig(study="s", trials=5, epochs=3, seed=7)
    resumed = stored.resumed_by(SearchConfig(study="s", trials=9, workers=2, seed=7))
    assert resumed == SearchConfig(study="s", trials=9, workers=2, epochs=3, seed=7)
    assert stored.resumed_by(SearchConfig(study="s")) == stored


def test_a_resume_with_other_settings_is_refused_by_name():
    stored = SearchConfig(study="s", epochs=3, seed=7)
    with pytest.raises(ConfigError, match=r"(?s)epochs=4.*seed=8.*omit epochs, seed to resume"):
        stored.resumed_by(SearchConfig(study="s", epochs=4, seed=8))


@pytest.mark.parametrize("study", ["", ",", "a/b", "a,<b>", "a,b,c,d,e,f,g"])
def test_a_report_is_of_one_to_six_studies(study):
    assert ReportConfig(study="a, b,a").study == ("a", "b")
    with pytest.raises(ConfigError, match="study"):
        ReportConfig(study=study)


def test_the_demo_is_a_valid_search():
    assert SearchConfig(**DEMO).data == "synthetic"


def test_the_words_are_cheap_to_import():
    heavy = "keras tensorflow optuna mlflow keras_tuner matplotlib sklearn pandas PIL kagglehub"
    code = (
        "import sys, fer_search.cli; "
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
