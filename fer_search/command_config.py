"""The parameters of the commands around a search: promote, predict, export, report, clean."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from fer_search.config import AUTO, Views
from fer_search.settings import Listed, ModelName, Request, StorageUrl, StudyName, one_of

FORMATS = ("onnx", "tflite")


class PromotionConfig(Request):
    """A promotion: the parameters of `mlflow run . -e promote`."""

    registered_model: ModelName = Field("fer-emotion", description="name in the model registry")
    version: Annotated[int, Field(ge=1)] | Literal["challenger"] = Field(
        "challenger", description="which version; challenger = the best of the newest study"
    )
    dry_run: bool = Field(False, description="compare and say what would happen, change nothing")
    rollback: bool = Field(False, description="go back to the champion before this one")
    min_gain: float = Field(
        0, ge=-1, le=1, description="macro-F1 by which the champion must be beaten, at least"
    )
    confidence: float = Field(
        0.95, ge=0.5, lt=1, description="with which the gain must be more than that"
    )
    max_f1_drop: float = Field(0.1, ge=0, le=1, description="most that one emotion's F1 may lose")
    min_f1: float = Field(0, ge=0, le=1, description="least F1 of every emotion")
    min_macro_f1: float = Field(0, ge=0, le=1, description="least macro-F1")
    max_calibration_error: float = Field(
        0, ge=0, le=1, description="largest expected calibration error; 0 = no limit"
    )
    max_megabytes: float = Field(0, ge=0, description="largest stored model; 0 = no limit")
    max_milliseconds: float = Field(
        0, ge=0, description="longest time for one image, on this machine; 0 = no limit"
    )

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.rollback and self.version != "challenger":
            raise ValueError(
                f"rollback=true and version={self.version}: expected one of them; a rollback goes "
                "to the champion before this one"
            )
        return self


class PredictionConfig(Request):
    """Predictions: the parameters of `mlflow run . -e predict`."""

    input: str = Field(min_length=1, description="an image, a folder, or a CSV with a column path")
    output: str = Field(
        min_length=1, description="a .csv, a .json, or a folder for annotated images and a CSV"
    )
    model: str = Field(
        "models:/fer-emotion@champion", min_length=1, description="address of the model in MLflow"
    )
    views: Views = Field(1, description="views of a face (1, 2 or 10) whose answers are averaged")


class ExportConfig(Request):
    """An export: the parameters of `mlflow run . -e export`."""

    format: Annotated[str, one_of(FORMATS)] = Field(
        "onnx", description=f"of the file: {', '.join(FORMATS)}"
    )
    output: str = Field(min_length=1, description="file to write")
    model: str = Field(
        "models:/fer-emotion@champion", min_length=1, description="address of the model in MLflow"
    )
    tolerance: float = Field(
        1e-3, ge=0, le=1, description="most that a probability may differ from the Keras model's"
    )


class CleanConfig(Request):
    """A clean-up of stored models: the parameters of `mlflow run . -e clean`."""

    apply: bool = Field(False, description="delete; without it, only say what would be deleted")
    versions: bool = Field(
        False, description="registered models may go too, if no alias points at their versions"
    )
    keep: int = Field(3, ge=1, description="best models of each study that stay, at least")
    study: StudyName = Field(AUTO, description="name of the one study to clean; auto = all")


class ReportConfig(Request):
    """A report: the parameters of `mlflow run . -e report`."""

    study: Annotated[tuple[StudyName, ...], Listed] = Field(
        min_length=1, max_length=6, description="name of a study; a,b puts several side by side"
    )
    storage: StorageUrl = Field(
        "sqlite:///optuna.db", description="Optuna storage URL of the study"
    )
    output: str = Field(
        "report.html", min_length=1, description="HTML file to write; replaced if it is there"
    )
