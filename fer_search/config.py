"""What goes down: a search as a person asks for it; a trial is in `trial_config.py`.

Configs are frozen and validated at birth, so nothing behind them checks a setting again. Legal
names are tuples here, cheap to import; a test keeps them equal to the catalogues that implement
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import pydantic
from pydantic import Field

from fer_search.errors import ConfigError
from fer_search.settings import Frozen, one_of, spelled

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Class names in the order of the labels: alphabetical, like the folders. The CSV of the challenge
has another order (angry, disgust, fear, happy, sad, surprise, neutral)."""

FACE_SIZE = 48
"""Side of the packed pictures in pixels, that of FER2013."""

BACKBONES = ("vgg16", "resnet50", "tiny")
STAGES = 5
"""Every backbone is cut into this many named stages."""
POOLINGS = ("avg", "max", "flatten")
BATCH_NORMS = ("stage", "frozen", "trainable")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "plateau")
SAMPLERS = ("tpe", "random", "qmc", "gp")
PRUNERS = ("hyperband", "asha", "median", "none")
SOURCES = ("fer2013", "synthetic")
ORIGINAL, CLEANED = FACES = ("original", "cleaned")
WEIGHTS = ("imagenet", "none")
PRECISIONS = ("auto", "mixed_bfloat16", "mixed_float16", "float32")
REGISTER = ("all", "best", "none")
FORMATS = ("onnx", "tflite")
STORAGES = ("sqlite", "postgresql", "mysql")
SMALLEST_IMAGE, LARGEST_IMAGE = 32, 512
"""VGG16 and ResNet50 halve a picture five times, so 32 pixels is the least."""

VIEWS = (1, 2, 10)
AUTO, NONE = "auto", "none"
MOVABLE = frozenset({"trials", "timeout", "views", "workers", "precision"})
"""Settings that may change when a study is resumed."""
_ADDRESS = frozenset({"study", "storage"})
"""How a study is found, hence the same by nature."""


def _views(value: int) -> int:
    if value not in VIEWS:
        raise ValueError(f"expected one of {', '.join(map(str, VIEWS))}")
    return value


def _listed(value: Any) -> Any:
    """Take `a,b` for `("a", "b")`; spaces around the commas and repetitions do not matter."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(dict.fromkeys(value)) if isinstance(value, (list, tuple)) else value


def _shared_and_open(url: str) -> str:
    """Let pass what several processes can use and what may be written into a log."""
    parts = urlsplit(url)
    if parts.scheme.split("+")[0] not in STORAGES or "://" not in url:
        raise ValueError(f"not the URL of a database; known: {', '.join(STORAGES)} (…://…)")
    if parts.scheme.startswith("sqlite"):
        path = url.split("://", 1)[1]
        if not path.startswith("/") or path in ("/", "/:memory:"):
            raise ValueError("workers are processes and need a file, e.g. sqlite:///optuna.db")
    if parts.password or {"password", "passwd"} & set(parse_qs(parts.query)):
        raise ValueError(
            "has a password in it, which MLflow would record; use PGPASSWORD or a .pgpass file"
        )
    return url


_Storage = Annotated[str, pydantic.AfterValidator(_shared_and_open)]
_List = pydantic.BeforeValidator(_listed)
_ModelName = Annotated[str, Field(pattern=r"^[^/:.%\"']+$", max_length=200)]
_StudyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=200)]
_ImageSize = Annotated[int, Field(ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)]


class Request(Frozen):
    """The parameters of a command."""

    def to_params(self) -> dict[str, str]:
        """Spell every setting as on the command line; `cls(**params)` reads it back."""
        return {name: spelled(value) for name, value in self.model_dump(by_alias=True).items()}


class SearchConfig(Request):
    """A search, as a person asks for it: the parameters of `mlflow run .`.

    The command line, its help and the defaults are made from these fields; a test keeps
    `MLproject` equal to them.
    """

    trials: int = Field(
        50, ge=1, le=100_000, description="finished trials (complete + pruned) the study shall hold"
    )
    timeout: float = Field(0, ge=0, description="seconds for the whole study; 0 = no limit")
    study: _StudyName = Field(
        AUTO, description="name of the study; an existing one is resumed, auto = a new name"
    )
    storage: _Storage = Field(
        "sqlite:///optuna.db", description="Optuna storage URL (SQLite, PostgreSQL or MySQL)"
    )
    data: str = Field(
        "fer2013",
        min_length=1,
        description="fer2013 (by kagglehub), synthetic, a folder, or a CSV of pixels",
    )
    faces: Annotated[str, one_of(FACES)] = Field(
        ORIGINAL, description="cleaned = do not train on what the votes call no face"
    )
    votes: str = Field(NONE, min_length=1, description="CSV of FER+ votes by path, for cleaned")
    limit: int = Field(
        0,
        ge=0,
        description="at most so many training and so many validation images, stratified; 0 = all",
    )
    backbones: Annotated[tuple[Annotated[str, one_of(BACKBONES)], ...], _List] = Field(
        ("vgg16", "resnet50"),
        min_length=1,
        description=f"which may be sampled: {','.join(BACKBONES)}",
    )
    hypermodel: Annotated[str, Field(pattern=rf"^({NONE}|[\w.]+:\w+)$")] = Field(
        NONE, description="module:name of a KerasTuner HyperModel to search instead of our networks"
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="imagenet, none, or a weights file; {backbone} in it is replaced",
    )
    image_sizes: Annotated[tuple[_ImageSize, ...], _List] | Literal["auto"] = Field(
        "auto", description="sizes that may be sampled, e.g. 48,96; auto = by the device"
    )
    epochs: int = Field(20, ge=1, le=10_000, description="most epochs a trial may train")
    sampler: Annotated[str, one_of(SAMPLERS)] = Field(
        "tpe", description=f"how parameters are proposed: {', '.join(SAMPLERS)}"
    )
    pruner: Annotated[str, one_of(PRUNERS)] = Field(
        "hyperband", description=f"how weak trials are stopped: {', '.join(PRUNERS)}"
    )
    views: Annotated[int, pydantic.AfterValidator(_views)] = Field(
        2, description="views of a picture (1, 2 or 10) up to which metrics are also logged"
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        1, description="worker processes on this machine; auto = one per GPU"
    )
    precision: Annotated[str, one_of(PRECISIONS)] = Field(
        AUTO, description=f"arithmetic of training: {', '.join(PRECISIONS)}"
    )
    seed: int = Field(
        42, ge=0, lt=2**32, description="everything random derives from it and the trial number"
    )
    register_: Annotated[str, one_of(REGISTER)] = Field(
        "all",
        alias="register",
        description=f"which completed trials become model versions: {', '.join(REGISTER)}",
    )
    registered_model: _ModelName = Field("fer-emotion", description="name in the model registry")

    @pydantic.field_validator("image_sizes")
    @classmethod
    def _some_size(cls, sizes: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if not sizes:
            raise ValueError("expected at least one size, e.g. 48,96, or auto")
        return sizes

    def anchored(self, directory: Path) -> Self:
        """Make relative paths absolute, as meant from `directory`.

        Raises:
            ConfigError: If `data` or `weights` names neither a known source nor an existing path.
        """
        if self.study == AUTO:
            self.insist_on_both_or_none()
        values = self.to_params()
        if self.storage.startswith("sqlite"):
            scheme, _, path = self.storage.partition(":///")
            values["storage"] = f"{scheme}:///{directory / path}"
        if self.data not in SOURCES:
            values["data"] = str(_existing(directory / self.data, "data", SOURCES))
        if self.votes != NONE:
            values["votes"] = str(_existing(directory / self.votes, "votes", (NONE,)))
        if self.weights not in WEIGHTS:
            for backbone in self.backbones:
                _existing(directory / weights_for(backbone, self.weights), "weights", WEIGHTS)
            values["weights"] = str(directory / self.weights)
        return type(self)(**values)

    def insist_on_both_or_none(self) -> None:
        """Refuse `faces=cleaned` without votes, and votes that nobody uses.

        Not checked at birth, because a resume asks for some settings and takes over the others.

        Raises:
            ConfigError: If one is given without the other.
        """
        if (self.faces == CLEANED) != (self.votes != NONE):
            raise ConfigError(
                f"faces={self.faces} and votes={self.votes}: expected faces=cleaned and votes=CSV, "
                "or none of them"
            )

    def resumed_by(self, asked: SearchConfig) -> SearchConfig:
        """These stored settings, changed as a resume may change them.

        Args:
            asked: What the resume asks for; a setting left at its default means "as stored".

        Raises:
            ConfigError: If a setting that must stay is asked for with another value.
        """
        defaults, stored, wanted = (c.to_params() for c in (SearchConfig(), self, asked))
        given = {n: v for n, v in wanted.items() if v != defaults[n] and n not in _ADDRESS}
        refused = [n for n, v in given.items() if n not in MOVABLE and v != stored[n]]
        if refused:
            raise ConfigError(
                "\n".join(
                    f"{name}={given[name]}: study {self.study} was made with {name}={stored[name]}"
                    for name in refused
                ),
                hint=f"leave {', '.join(refused)} out to resume, or name another study; "
                f"what may change: {', '.join(sorted(MOVABLE))}",
            )
        moved = {name: value for name, value in given.items() if name in MOVABLE}
        return SearchConfig(**stored | moved)


class WorkerConfig(Request):
    """A worker that joins a study: the parameters of the command `worker`."""

    study: _StudyName = Field(description="name of the study to join")
    storage: _Storage = Field("sqlite:///optuna.db", description="Optuna storage URL of the study")
    parent: int = Field(0, ge=0, description="process with which to stop; 0 = none")


class PromotionConfig(Request):
    """A promotion: the parameters of `mlflow run . -e promote`."""

    registered_model: _ModelName = Field("fer-emotion", description="name in the model registry")
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
        0, ge=0, description="longest time for one picture, on this machine; 0 = no limit"
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

    input: str = Field(min_length=1, description="a picture, a folder, or a CSV with a column path")
    output: str = Field(
        min_length=1, description="a .csv, a .json, or a folder for annotated pictures and a CSV"
    )
    model: str = Field(
        "models:/fer-emotion@champion", min_length=1, description="address of the model in MLflow"
    )
    views: Annotated[int, pydantic.AfterValidator(_views)] = Field(
        1, description="views of a face (1, 2 or 10) whose answers are averaged"
    )


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
    study: _StudyName = Field(AUTO, description="name of the one study to clean; auto = all")


class ReportConfig(Request):
    """A report: the parameters of `mlflow run . -e report`."""

    study: Annotated[tuple[_StudyName, ...], _List] = Field(
        min_length=1, max_length=6, description="name of a study; a,b puts several side by side"
    )
    storage: _Storage = Field("sqlite:///optuna.db", description="Optuna storage URL of the study")
    output: str = Field(
        "report.html", min_length=1, description="HTML file to write; replaced if it is there"
    )


DEMO: Mapping[str, Any] = {
    "trials": 3,
    "data": "synthetic",
    "backbones": "tiny",
    "weights": "none",
    "image_sizes": "48",
    "epochs": 5,
    "pruner": "none",
}
"""Where the `demo` command departs from the defaults of a search."""


def weights_for(backbone: str, weights: str) -> str:
    """Put the name of the backbone where `weights` says `{backbone}`."""
    return weights.replace("{backbone}", backbone)


def _existing(path: Path, name: str, known: Iterable[str]) -> Path:
    if not path.exists():
        raise ConfigError(
            f"{name}={path}: no such file or folder", hint=f"known names: {', '.join(known)}"
        )
    return path
