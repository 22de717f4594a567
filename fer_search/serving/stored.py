"""Get a stored model back as a Keras model, e.g. to evaluate it on test."""

from __future__ import annotations

from pathlib import Path

import keras
import mlflow.artifacts
from mlflow import MlflowClient


def load_keras(client: MlflowClient, model_id: str) -> keras.Model:
    """Load the Keras model inside a logged model.

    Args:
        client: Of the store that holds it.
        model_id: Of the logged model.
    """
    folder = mlflow.artifacts.download_artifacts(
        f"models:/{model_id}", tracking_uri=client.tracking_uri
    )
    (file,) = Path(folder, "artifacts").glob("*.keras")
    return keras.saving.load_model(file, compile=False)
