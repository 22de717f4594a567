"""The package around a stored model's weights: code, signature, input example, requirements."""

from __future__ import annotations

import base64
import io
import logging
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
import pandas
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from PIL import Image

from fer_search.config import EMOTIONS, FACE_SIZE
from fer_search.errors import StoreError

PREDICTOR = Path(__file__).with_name("predictor.py")
"""The code that is stored with every model; it runs without this package."""

_PACKAGES = ("keras", "mlflow", "numpy", "pandas", "pillow")
_BACKEND_PACKAGES = {
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "jax": ("jax",),
    "torch": ("torch",),
}
"""Packages that may provide a backend; the first installed one counts."""

logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # "Validating input example …"


def signature() -> ModelSignature:
    """Describe the table that a stored model takes, its one parameter, and its output."""
    answers = [ColSpec("double", name, required=False) for name in ("probability", *EMOTIONS)]
    emotion, error = (ColSpec("string", name, required=False) for name in ("emotion", "error"))
    return ModelSignature(
        inputs=Schema([ColSpec("string", "image")]),
        outputs=Schema([emotion, *answers, error]),
        params=ParamSchema([ParamSpec("views", "long", 1)]),
    )


def input_example() -> pandas.DataFrame:
    """Make an input table for a stored model: one image, a grey ramp as PNG."""
    ramp = np.tile(np.linspace(0, 255, FACE_SIZE).astype(np.uint8), (FACE_SIZE, 1))
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    return pandas.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})


def pip_requirements() -> list[str]:
    """Pin a stored model's requirements, Keras's backend included, to the installed versions."""
    versions = {name: _version(name) for name in _BACKEND_PACKAGES[keras.config.backend()]}
    backend = next(name for name, version in versions.items() if version)
    return [f"{name}=={_version(name)}" for name in (*_PACKAGES, backend)]


def log_model(
    client: MlflowClient,
    *,
    run_id: str,
    experiment_id: str,
    keras_file: Path,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> str:
    """Store a Keras model in MLflow as an output of a run.

    Only `client` is used: no active run is needed or left behind, and the global tracking URI does
    not matter. The run's metrics at step 0, those of the finished model, are linked to the logged
    model. Calling again finishes a call that was interrupted, and otherwise changes nothing.

    Args:
        client: Client of the tracking store that holds the run.
        run_id: The run that trained the model; it may have ended.
        experiment_id: The experiment of that run.
        keras_file: The inference model, from (N, 48, 48, 1) in [0, 255] to (N, 7) probabilities.
        name: The model's name in the tracking UI; a run has at most one model of a name.
        params: The model's parameters in the tracking UI.
        tags: Tags of the logged model.

    Returns:
        The id of the logged model, which loads as `models:/<id>`.

    Raises:
        FileNotFoundError: If `keras_file` does not exist.
        MlflowException: If the store refuses or cannot be reached.
    """
    keras_file = keras_file.resolve(strict=True)
    model = _begun_model(client, run_id, experiment_id, name) or client.create_logged_model(
        experiment_id, name, run_id, dict(tags), dict(params)
    )
    if model.status == LoggedModelStatus.READY:
        return str(model.model_id)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "model")
        mlflow.pyfunc.save_model(
            package,
            mlflow_model=Model(
                model.artifact_location, run_id, model_uuid=model.model_id, model_id=model.model_id
            ),
            python_model=str(PREDICTOR),
            artifacts={"model": keras_file.as_uri()},  # a path would be taken for a URI, too
            model_config={"emotions": list(EMOTIONS), "backend": keras.config.backend()},
            signature=signature(),
            input_example=input_example(),
            pip_requirements=pip_requirements(),
        )
        client.log_model_artifacts(model.model_id, str(package))
    run = client.get_run(run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_batch(run_id, metrics=_final_metrics(run, model.model_id))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def load_keras(client: MlflowClient, model_id: str) -> tuple[keras.Model, int]:
    """Load the Keras model inside a logged model, for example to evaluate it on the test set.

    Args:
        client: Client of the tracking store that holds the model.
        model_id: The id of the logged model.

    Returns:
        The model, not compiled, and the size of its file in bytes.

    Raises:
        MlflowException: If the store has no such model.
        FileNotFoundError: If the model has no `.keras` file, or more than one.
        OSError, ValueError, TypeError: If the file is damaged or from another version of Keras.
    """
    with tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(
            f"models:/{model_id}", dst_path=folder, tracking_uri=client.tracking_uri
        )
        files = list(Path(folder).glob("artifacts/*.keras"))
        if len(files) != 1:
            raise FileNotFoundError(f"expected one .keras file in {model_id}, found {len(files)}")
        return keras.saving.load_model(files[0], compile=False), files[0].stat().st_size


def load_predictor(uri: str) -> tuple[Any, str]:
    """Load a stored model as it is served.

    Args:
        uri: The model's URI, for example `models:/fer-emotion@champion`.

    Returns:
        An `EmotionPredictor` (see `predictor.py`) and the id of the run that trained it.

    Raises:
        StoreError: If there is no such model, it cannot be loaded, or it is of another kind.
    """
    try:
        loaded = mlflow.pyfunc.load_model(uri)
        model = loaded.unwrap_python_model()
    except (MlflowException, OSError, ValueError, TypeError, ImportError) as error:
        raise StoreError(
            f"the model {uri} cannot be loaded: {str(error).strip().splitlines()[0]}",
            hint="promote one first (-e promote), or name another one with model=models:/NAME/N",
        ) from error
    if not hasattr(model, "predict_images"):
        raise StoreError(f"the model {uri} is a {type(model).__name__}, not one stored by a search")
    return model, str(loaded.metadata.run_id)


def _begun_model(
    client: MlflowClient, run_id: str, experiment_id: str, name: str
) -> LoggedModel | None:
    """Find the model that an earlier, perhaps interrupted, call created for this run."""
    found = client.search_logged_models(
        [experiment_id], f"source_run_id = '{run_id}' AND name = '{name}'", max_results=1
    )
    return found[0] if found else None


def _final_metrics(run: Run, model_id: str) -> list[Metric]:
    """Repeat the run's metrics at step 0, linked to the model.

    The run does not get them twice, because MLflow drops a value already logged at the same time.
    """
    run_id = run.info.run_id
    return [
        Metric(metric.key, metric.value, metric.timestamp, 0, model_id=model_id, run_id=run_id)
        for metric in run.data.to_proto().metrics  # `data.metrics` has neither step nor time
        if metric.step == 0
    ]


def _version(package: str) -> str:
    """Return the installed version, or "", without a local part (`+cpu`), which no index has."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""
