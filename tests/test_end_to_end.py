"""Whole commands as a user types them, in their own processes."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from pages import Page

from fer_search import cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[1]
TORCH = importlib.util.find_spec("torch") is not None
SMALL = [
    "--trials=1", "--data=synthetic", "--limit=200", "--weights=none", "--image_sizes=48",
    "--epochs=1", "--study=s",
]  # fmt: skip


def run(*command, **environment):
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": paths} | environment,
    )  # fmt: skip
    done.stderr = None
    return done


def search(*options, **environment):
    return run(sys.executable, "-m", "fer_search", "search", *SMALL, *options, **environment)


def run_tree():
    client = MlflowClient()
    runs = client.search_runs(["0"])
    (study_run,) = [run for run in runs if run.data.tags.get("fer.command") == "search"]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return client, study_run, children


def test_the_demo_by_mlflow_run_then_its_printed_promotion(tmp_path):
    done = run("mlflow", "run", str(ROOT), "-e", "demo", "--env-manager", "local")
    assert done.returncode == 0, done.stdout
    client, study_run, children = run_tree()
    assert len(children) == 3
    assert study_run.info.status == "FINISHED"
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED"}
    assert study_run.data.metrics["test_macro_f1"] > 0.4, "the demo should learn something"
    assert study_run.data.params["data"] == "synthetic"
    assert {"device", "backend", "precision"} <= set(study_run.data.tags)
    names = {file.path for file in client.list_artifacts(study_run.info.run_id)}
    assert {
        "config.json", "data.json", "environment.json", "optimization_history.png",
        "parameter_importances.png", "parameters.png", "trial_curves.png",
        "test_confusion_matrix.png", "test_f1.png",
    } <= names  # fmt: skip
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("tmp")]
    (report,) = re.findall(r"Read the report: +mlflow (.+)", done.stdout)
    reported = run("mlflow", *report.split())
    assert reported.returncode == 0, reported.stdout
    kept = {file.path for file in client.list_artifacts(study_run.info.run_id)}
    assert kept - names == {"report.html"}
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).alts
    (promote,) = re.findall(r"Promote the model: +mlflow (.+)", done.stdout)
    promoted = run("mlflow", *promote.split())
    assert promoted.returncode == 0, promoted.stdout
    champion = client.get_model_version_by_alias("fer-emotion-demo", "champion")
    challenger = client.get_model_version_by_alias("fer-emotion-demo", "challenger")
    assert champion.version == challenger.version


@pytest.mark.parametrize(("backend", "network"), [("tensorflow", "resnet50"), ("jax", "tiny")])
def test_a_search_from_scratch_runs_on_every_backend(backend, network):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = search(f"--backbones={network}", "--limit=70", "--views=1", KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stdout
    _, study_run, (child,) = run_tree()
    assert study_run.data.tags["backend"] == backend
    assert child.data.params["backbone"] == network
    assert 0 <= child.data.metrics["val_accuracy"] <= 1


TUTORIAL = """
import keras

class Mine(keras.layers.Layer):
    def call(self, inputs):
        return inputs

def build(hp, extra=()):
    model = keras.Sequential([
        keras.Input((48, 48, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(hp.Int("filters", 4, 8), 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        *extra,
        keras.layers.Dense(7, activation="softmax"),
    ])
    model.compile(
        keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-2, sampling="log")),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model

def custom(hp):
    return build(hp, [Mine()])
"""


def test_a_custom_hypermodel_is_searched_stored_and_tested(tmp_path):
    (tmp_path / "faces.py").write_text(TUTORIAL)
    done = search("--hypermodel=faces:build", "--limit=70")
    assert done.returncode == 0, done.stdout
    client, study_run, (child,) = run_tree()
    assert set(child.data.params) == {"hypermodel", "filters", "rate"}
    assert child.data.params["hypermodel"] == "faces:build"
    assert 0 <= child.data.metrics["val_macro_f1"] <= 1
    assert 0 <= study_run.data.metrics["test_macro_f1"] <= 1
    (version,) = client.search_model_versions("name='fer-emotion'")
    assert version.tags["backbone"] == "build"


def test_a_custom_hypermodel_that_needs_its_code_is_refused_before_a_run(tmp_path):
    (tmp_path / "faces.py").write_text(TUTORIAL)
    done = search("--hypermodel=faces:custom")
    assert done.returncode == 2, done.stdout
    assert "code from outside Keras: Mine" in done.stdout
    assert "Traceback" not in done.stdout
    assert not MlflowClient().search_runs(["0"])


def test_a_finished_study_goes_on_under_the_same_run():
    first = search("--backbones=tiny", "--trials=2", "--register=best")
    assert first.returncode == 0, first.stdout
    assert "Study s is new\n" in first.stdout
    assert len(MlflowClient().search_model_versions("name='fer-emotion'")) == 1
    more = search("--backbones=tiny", "--trials=3")
    assert more.returncode == 0, more.stdout
    _, study_run, children = run_tree()
    assert "Study s is resumed: 2 of 3 trials are finished" in more.stdout
    assert len(children) == 3
    assert study_run.info.status == "FINISHED"
    joined = run(
        "mlflow", "run", str(ROOT), "-e", "worker", "--env-manager", "local", "-P", "study=s"
    )
    assert joined.returncode == 0, joined.stdout
    assert "Study s needs no more trials" in joined.stdout
    (last, *_) = MlflowClient().search_runs(["0"])
    assert last.info.run_name == "worker of s"
    late = search("--backbones=tiny", "--trials=49", "--timeout=1")
    assert late.returncode == 0, late.stdout
    assert "Time is up" in late.stdout
    assert re.search(r"Extend the search: .* --study=s --timeout=\d+\n", late.stdout)


@pytest.mark.long
def test_a_cleaned_study_goes_on_and_its_best_model_is_promoted():
    assert search("--backbones=tiny", "--trials=2", "--pruner=none").returncode == 0
    command = (sys.executable, "-m", "fer_search", "clean", "--versions=true", "--keep=1")
    shown = run(*command)
    assert shown.returncode == 0, shown.stdout
    (apply,) = re.findall(r"To delete:\n +python (.+)", shown.stdout)
    cleaned = run(sys.executable, *apply.split())
    assert cleaned.returncode == 0, cleaned.stdout
    client, study_run, children = run_tree()
    removed = [run for run in children if "fer.model_removed" in run.data.tags]
    left = client.search_model_versions("name='fer-emotion'")
    assert len(children) - len(removed) == len(left) == 1
    assert study_run.data.tags["best_run"] in {version.run_id for version in left}
    more = search("--backbones=tiny", "--trials=3")
    assert more.returncode == 0, more.stdout
    promoted = run(sys.executable, "-m", "fer_search", "promote")
    assert promoted.returncode == 0, promoted.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--data=nowhere"], "no such file or folder", id="no_data"),
        pytest.param(["--data=empty"], "empty", id="empty_data"),
        pytest.param(["--backbones=vgg16", "--weights=bad.h5"], "bad.h5", id="bad_weights"),
        pytest.param(["--storage=sqlite:////dev/null/o.db"], "cannot be opened", id="storage"),
        pytest.param(
            ["--sampler=gp", "--backbones=tiny"],
            "needs PyTorch",
            id="no_torch",
            marks=pytest.mark.skipif(TORCH, reason="PyTorch is installed"),
        ),
        pytest.param(["--backbones=tiny", "--weights=imagenet"], "ImageNet", id="no_imagenet"),
    ],
)
def test_a_mistake_is_refused_without_a_traceback_and_without_a_run(
    tmp_path, monkeypatch, capsys, options, said
):
    """Run in this process: there are many refusals, and a new process takes seconds to import."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.h5").write_text("these are no weights")
    monkeypatch.setattr(sys, "argv", ["fer_search", "search", *SMALL, *options])
    monkeypatch.setattr(cli, "stop_on_signals", lambda: None)  # they are pytest's here
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert said in error
    assert "Hint: " in error
    assert not MlflowClient().search_runs(["0"])


def test_an_experiment_that_is_gone_is_refused_before_data_are_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987")
    monkeypatch.setattr(sys, "argv", ["fer_search", "search", *SMALL, "--data=empty"])
    monkeypatch.setattr(cli, "stop_on_signals", lambda: None)  # they are pytest's here
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err.startswith("Error: experiment 987 is not in")


def test_a_worker_needs_a_study():
    done = run(sys.executable, "-m", "fer_search", "worker", "--study=none")
    assert done.returncode == 2
    assert "there is no study 'none'" in done.stdout


@pytest.mark.long
def test_real_faces_and_real_weights_reach_what_a_sound_pipeline_reaches(shared, tmp_path):
    cache = tmp_path / "kagglehub"
    subprocess.run([sys.executable, shared / "data/unpack.py", "--to", cache], check=True)
    done = run(
        "mlflow", "run", str(ROOT), "--env-manager", "local", "-P", "trials=2",
        "-P", "backbones=vgg16", "-P", "epochs=2", "-P", "limit=3000", "-P", "views=1",
        "-P", f"weights={shared}/weights/vgg16_hed_notop.weights.h5",
        KAGGLEHUB_CACHE=str(cache),
    )  # fmt: skip
    shutil.rmtree(cache)
    assert done.returncode == 0, done.stdout
    _, study_run, children = run_tree()
    assert {child.info.status for child in children} == {"FINISHED"}
    # The first known-good point suits long searches, the second one short ones like this.
    assert max(child.data.metrics["val_macro_f1"] for child in children) >= 0.2  # guessing: 0.14
    assert 0 < study_run.data.metrics["test_macro_f1"] < 1
