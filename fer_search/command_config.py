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
        "challenger", description="version to promote; challenger = the best of the newest study"
    )
    dry_run: bool = Field(False, description="compare and report, but change nothing")
    rollback: bool = Field(False, description="go back to the previous champion")
    min_gain: float = Field(
        0, ge=-1, le=1, description="required gain in macro-F1 over the champion"
    )
    confidence: float = Field(
        0.95, ge=0.5, lt=1, description="confidence that the gain exceeds min_gain"
    )
    max_f1_drop: float = Field(0.1, ge=0, le=1, description="maximum drop in any emotion's F1")
    min_f1: float = Field(0, ge=0, le=1, description="minimum F1 of every emotion")
    min_macro_f1: float = Field(0, ge=0, le=1, description="minimum macro-F1")
    max_calibration_error: float = Field(
        0, ge=0, le=1, description="maximum expected calibration error; 0 = no limit"
    )
    max_megabytes: float = Field(0, ge=0, description="maximum size of the model; 0 = no limit")
    max_milliseconds: float = Field(
        0, ge=0, description="maximum time per image on this machine; 0 = no limit"
    )

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.rollback and self.version != "challenger":
            raise ValueError(
                f"rollback=true and version={self.version}: expected only one of them; a "
                "rollback goes to the previous champion"
            )
        return self


class PredictionConfig(Request):
    """Predictions: the parameters of `mlflow run . -e predict`."""

    input: str = Field(min_length=1, description="an image, a folder, or a CSV with a path column")
    output: str = Field(
        min_length=1, description="a .csv, a .json, or a folder for annotated images and a CSV"
    )
    model: str = Field(
        "models:/fer-emotion@champion", min_length=1, description="MLflow URI of the model"
    )
    views: Views = Field(1, description="views of each face to average over: 1, 2 or 10")


class ExportConfig(Request):
    """An export: the parameters of `mlflow run . -e export`."""

    format: Annotated[str, one_of(FORMATS)] = Field(
        "onnx", description=f"file format: {', '.join(FORMATS)}"
    )
    output: str = Field(min_length=1, description="file to write")
    model: str = Field(
        "models:/fer-emotion@champion", min_length=1, description="MLflow URI of the model"
    )
    tolerance: float = Field(
        1e-3, ge=0, le=1, description="maximum difference from the Keras model's probabilities"
    )


class CleanConfig(Request):
    """A clean-up of stored models: the parameters of `mlflow run . -e clean`."""

    apply: bool = Field(False, description="delete; if false, only show what would be deleted")
    versions: bool = Field(
        False, description="allow deleting registered models if no alias points at their versions"
    )
    keep: int = Field(3, ge=1, description="best models of each study that are always kept")
    study: StudyName = Field(AUTO, description="name of the study to clean; auto = all")


class ReportConfig(Request):
    """A report: the parameters of `mlflow run . -e report`."""

    study: Annotated[tuple[StudyName, ...], Listed] = Field(
        min_length=1, max_length=6, description="name of the study; a,b compares several"
    )
    storage: StorageUrl = Field(
        "sqlite:///optuna.db", description="Optuna storage URL of the study"
    )
    output: str = Field(
        "report.html", min_length=1, description="HTML file to write; overwritten if it exists"
    )
