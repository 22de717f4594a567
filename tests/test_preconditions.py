import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from fer_search.config import SearchConfig
from fer_search.errors import ConfigError, HyperModelError
from fer_search.preconditions import (
    check_agreement,
    check_backend,
    check_before_imports,
    check_extra,
)
from fer_search.processes import environment_with_package
from fer_search.study.studies import create_study, open_storage


@pytest.mark.parametrize(
    ("package", "wish"), [("torch", {"sampler": "gp"}), ("ray", {"launcher": "ray"})]
)
def test_who_lacks_a_package_is_told_how_to_get_it(tmp_path, monkeypatch, package, wish):
    hide(monkeypatch, package)
    with pytest.raises(ConfigError, match=r"needs \w+, which is not installed") as refusal:
        check_before_imports(SearchConfig(study="s", **wish), tmp_path)
    (name,) = wish.values()
    assert f"requirements-{name}.txt" in refusal.value.hint


def hide(monkeypatch, package, instead=None):
    """Make a package appear not installed, whether it is or not."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: instead if name == package else found(name)
    )


def test_a_folder_of_the_same_name_is_no_package(tmp_path, monkeypatch):
    hide(monkeypatch, "ray", ModuleSpec("ray", None, is_package=True))
    with pytest.raises(ConfigError, match="needs Ray"):
        check_extra("launcher=ray")


def test_a_study_can_be_read_without_the_package_of_its_sampler(monkeypatch):
    hide(monkeypatch, "torch")
    search = SearchConfig(study="s", sampler="gp", backbones="tiny", image_sizes="48")
    study = create_study(open_storage("sqlite:///o.db"), search, {"run_id": "r"})
    assert {trial.state for trial in study.trials()} == {"WAITING"}
    with pytest.raises(ConfigError, match="needs PyTorch"):
        study.take()


def test_a_module_is_looked_for_where_the_person_typed(tmp_path):
    mine = SearchConfig(hypermodel="quite_my_own.networks:Wide")
    with pytest.raises(HyperModelError, match="no module named quite_my_own") as refusal:
        check_before_imports(mine, tmp_path)
    assert str(tmp_path) in refusal.value.hint
    (tmp_path / "quite_my_own.py").write_text("raise AssertionError('imported')")
    check_before_imports(mine, tmp_path)
    check_before_imports(SearchConfig(hypermodel="keras_tuner.applications:HyperResNet"), tmp_path)


@pytest.mark.parametrize(
    ("contradiction", "said"),
    [
        ({"faces": "cleaned"}, "expected faces=cleaned and votes=CSV"),
        ({"votes": "v.csv"}, "expected faces=cleaned and votes=CSV"),
        ({"launcher": "ray"}, "image_sizes=auto: on a cluster"),
        (
            {"launcher": "ray", "image_sizes": "48", "hypermodel": "keras_tuner:HyperModel"},
            "Ray does not copy your module",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_unless_a_study_may_have_the_rest(
    tmp_path, monkeypatch, contradiction, said
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: ModuleSpec("ray", object()))
    with pytest.raises(ConfigError, match=said):
        check_before_imports(SearchConfig(**contradiction), tmp_path)
    named = SearchConfig(study="s", **contradiction)
    check_before_imports(named, tmp_path)
    with pytest.raises(ConfigError, match=said):
        check_agreement(named)


def test_a_resume_may_repeat_half_of_what_agreed():
    stored = SearchConfig(study="s", faces="cleaned", votes="/v.csv")
    for half in ({"faces": "cleaned"}, {"votes": "/v.csv"}):
        assert stored.resumed_by(SearchConfig(study="s", **half)) == stored


def test_a_refusal_imports_nothing_slow():
    slow = "keras tensorflow optuna mlflow keras_tuner sklearn"
    code = (
        "import atexit, sys; from fer_search.cli import main\n"
        f"atexit.register(lambda: print([m for m in {slow.split()!r} if m in sys.modules]))\n"
        "sys.argv[1:] = ['search', '--hypermodel=nowhere:Net']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment_with_package(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "[]\n"), done.stderr
    assert "no module named nowhere" in done.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("theano", "tensorflow, jax, torch"), ("torch", "is not installed")]
)
def test_a_backend_that_keras_cannot_have_is_refused(monkeypatch, name, said):
    hide(monkeypatch, "torch")
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(ConfigError, match=said):
        check_backend()
