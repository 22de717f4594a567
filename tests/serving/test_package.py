import json
import os
import subprocess
import sys
import textwrap
from importlib import metadata

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.pyfunc import scoring_server

from fer_search.config import EMOTIONS
from fer_search.serving import package


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A store that is not the global one."""
    return MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")


def finished_run(client, folder):
    experiment = client.create_experiment(folder.name, artifact_location=str(folder / "artifacts"))
    run = client.create_run(experiment, run_name="trial-007")
    client.log_batch(
        run.info.run_id,
        metrics=[
            Metric("epoch/val_macro_f1", 0.4, 1_000, 1),
            Metric("val_macro_f1", 0.5, 2_000, 0),
            Metric("val_accuracy", 0.6, 2_000, 0),
        ],
    )
    client.set_terminated(run.info.run_id)
    return run


@pytest.fixture
def run(client, tmp_path):
    return finished_run(client, tmp_path)


def log(client, run, keras_file):
    return package.log_model(
        client,
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        keras_file=keras_file,
        name="trial-007",
        params={"backbone": "tiny"},
        tags={"optuna.trial_number": "7"},
    )


def test_logged_model_belongs_to_its_run(client, run, keras_file):
    model_id = log(client, run, keras_file)
    model = client.get_logged_model(model_id)
    assert model.status == "READY"
    assert (model.name, model.source_run_id) == ("trial-007", run.info.run_id)
    assert model.params["backbone"] == "tiny"
    assert model.tags["optuna.trial_number"] == "7"
    outputs = client.get_run(run.info.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model_id]


def test_final_metrics_are_linked_and_not_repeated(client, run, keras_file):
    model = client.get_logged_model(log(client, run, keras_file))
    linked = {metric.key: (metric.value, metric.step) for metric in model.metrics}
    assert linked == {"val_macro_f1": (0.5, 0), "val_accuracy": (0.6, 0)}
    assert len(client.get_metric_history(run.info.run_id, "val_macro_f1")) == 1


def test_logging_touches_nothing_but_the_given_store(client, run, keras_file, tmp_path, capfd):
    before = client.get_run(run.info.run_id).data
    capfd.readouterr()
    log(client, run, keras_file)
    assert mlflow.active_run() is None
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["artifacts"]
    after = client.get_run(run.info.run_id)
    assert (after.data.params, after.data.metrics) == (before.params, before.metrics)
    assert after.info.status == "FINISHED"
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert capfd.readouterr() == ("", "")


def test_logging_again_changes_nothing(client, run, keras_file):
    first = log(client, run, keras_file)
    assert log(client, run, keras_file) == first
    assert len(client.get_run(run.info.run_id).outputs.model_outputs) == 1


@pytest.mark.parametrize(
    "step", ["log_model_artifacts", "log_outputs", "log_batch", "finalize_logged_model"]
)
def test_a_call_that_was_cut_short_is_finished_by_the_next(
    client, run, keras_file, monkeypatch, step
):
    with monkeypatch.context() as patch:
        patch.setattr(client, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            log(client, run, keras_file)
    model_id = log(client, run, keras_file)
    assert [model.model_id for model in models_of(client, run)] == [model_id]
    assert client.get_logged_model(model_id).status == "READY"
    outputs = client.get_run(run.info.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model_id]
    assert len(client.get_logged_model(model_id).metrics) == 2


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def models_of(client, run):
    return client.search_logged_models([run.info.experiment_id])


def test_a_missing_file_leaves_no_model(client, run, tmp_path):
    with pytest.raises(FileNotFoundError):
        log(client, run, tmp_path / "model.keras")
    assert models_of(client, run) == []


@pytest.fixture(scope="module")
def opened(client, keras_file, tmp_path_factory):
    """The stored model, loaded by its alias in the registry and with pickle forbidden."""
    run = finished_run(client, tmp_path_factory.mktemp("registered"))
    model_id = log(client, run, keras_file)
    client.create_registered_model("fer-emotion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        version = client.create_model_version(
            "fer-emotion", f"models:/{model_id}", run_id=run.info.run_id, model_id=model_id
        )
        client.set_registered_model_alias("fer-emotion", "challenger", version.version)
        return mlflow.pyfunc.load_model("models:/fer-emotion@challenger")


def test_stored_model_answers_like_the_network(opened, network):
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    expected = network.predict(images[..., np.newaxis], verbose=0)
    answers = opened.unwrap_python_model().predict_images(images)
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_stored_model_answers_its_own_example(opened):
    answers = opened.predict(opened.input_example)
    assert list(answers.columns) == opened.metadata.get_output_schema().input_names()
    assert answers["emotion"][0] in EMOTIONS


def test_views_are_a_parameter_of_the_stored_model(opened):
    plain, averaged = (
        opened.predict(opened.input_example, params={"views": views}) for views in (1, 10)
    )
    assert plain.equals(opened.predict(opened.input_example))
    assert not np.allclose(plain["happy"], averaged["happy"], rtol=1e-6)


def serve(model, *cells, **params):
    body = json.dumps({"dataframe_records": [{"image": cell} for cell in cells], "params": params})
    schema = model.metadata.get_input_schema()
    return scoring_server.invocations(body, "application/json", model, schema)


def test_server_answers_good_rows_and_nulls_in_bad_ones(opened):
    good = package.input_example()["image"][0]
    answer = serve(opened, "rubbish", good, None)
    assert answer.status == 200
    rows = json.loads(answer.response, parse_constant=pytest.fail)["predictions"]
    assert [row["emotion"] in EMOTIONS for row in rows] == [False, True, False]
    assert [row["error"] is None for row in rows] == [False, True, False]
    assert rows[0]["probability"] is None


def test_server_takes_views_and_blames_the_client_for_others(opened):
    (cell,) = package.input_example()["image"]
    assert serve(opened, cell, views=2).status == 200
    with pytest.raises(mlflow.MlflowException, match="views=3") as caught:
        serve(opened, cell, views=3)
    assert caught.value.get_http_status_code() == 400


def test_server_blames_the_client_when_no_row_is_an_image(opened):
    with pytest.raises(mlflow.MlflowException, match="none of the 2 rows") as caught:
        serve(opened, "rubbish", None)
    assert caught.value.get_http_status_code() == 400


def test_requirements_are_pinned_to_what_is_installed():
    pins = dict(pin.split("==") for pin in package.pip_requirements())
    assert set(pins) >= {"keras", "mlflow", "numpy", "pandas", "pillow"}
    assert set(pins) & {"tensorflow", "tensorflow-cpu", "jax", "torch"}
    assert all(metadata.version(name).startswith(version) for name, version in pins.items())


@pytest.mark.slow
def test_stored_model_loads_where_this_package_does_not(client, run, keras_file, tmp_path):
    model_id = log(client, run, keras_file)
    script = """
        import sys
        import mlflow.pyfunc
        model = mlflow.pyfunc.load_model(sys.argv[1])
        print(model.predict(model.input_example)["emotion"][0])
        try:
            import fer_search
        except ImportError:
            print("alone")
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script), f"models:/{model_id}"],
        cwd=tmp_path,
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": client.tracking_uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        check=True,
        capture_output=True,
        text=True,
    )
    emotion, alone = done.stdout.split()
    assert emotion in EMOTIONS
    assert alone == "alone"
