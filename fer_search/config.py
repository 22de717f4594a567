"""The settings of a search, as a person asks for it.

Those of a trial are in `trial_config.py`, the parameters of the other commands in
`command_config.py`. Configs are frozen and validated on creation; whether settings agree is checked
once a resume has taken over the stored ones (`preconditions.py`). Valid names are tuples here,
cheap to import; a test keeps them equal to the catalogues that implement them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from fer_search.errors import ConfigError
from fer_search.settings import Listed, ModelName, Request, StorageUrl, StudyName, one_of

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Class names in the order of the labels: alphabetical, like the folders. The CSV of the challenge
has another order (angry, disgust, fear, happy, sad, surprise, neutral)."""

FACE_SIZE = 48
"""Side of the packed images in pixels, as in FER2013."""

BACKBONES = ("vgg16", "resnet50", "tiny")
STAGES = 5
"""Every backbone is cut into this many named stages."""
POOLINGS = ("avg", "max", "flatten")
BATCH_NORMS = ("stage", "frozen", "trainable")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "plateau")
SAMPLERS = ("auto", "mutation", "tpe", "random", "qmc", "gp")
PRUNERS = ("asha", "hyperband", "median", "none")
SOURCES = ("fer2013", "synthetic")
ORIGINAL, CLEANED = FACES = ("original", "cleaned")
WEIGHTS = ("imagenet", "none")
PRECISIONS = ("auto", "mixed_bfloat16", "mixed_float16", "float32")
LOCAL, RAY = LAUNCHERS = ("local", "ray")
REGISTER = ("all", "best", "none")
SMALLEST_IMAGE, LARGEST_IMAGE = 32, 512
"""VGG16 and ResNet50 halve an image five times, so 32 pixels is the minimum."""

VIEWS = (1, 2, 10)
AUTO, NONE = "auto", "none"
MOVABLE = frozenset(
    {
        "trials",
        "timeout",
        "views",
        "workers",
        "trials_per_gpu",
        "retries",
        "precision",
        "launcher",
        "ray_address",
    }
)
"""Settings that may change when a study is resumed."""
_OF_THE_MOMENT = ("launcher", "ray_address")
"""Settings that a resume never takes over from the stored ones: that cluster may be gone."""
_ADDRESS = frozenset({"study", "storage"})
"""Settings by which a study is found, which are therefore the same."""


def _views(value: int) -> int:
    if value not in VIEWS:
        raise ValueError(f"expected one of {', '.join(map(str, VIEWS))}")
    return value


def _place_of_hypermodel(value: str) -> str:
    if not re.fullmatch(rf"{NONE}|\w+(\.\w+)*:\w+", value):
        raise ValueError(f"expected module:name, or {NONE}")
    return value


Views = Annotated[int, pydantic.AfterValidator(_views)]
_ImageSize = Annotated[int, Field(ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)]


class SearchConfig(Request):
    """A search, as a person asks for it: the parameters of `mlflow run .`.

    The command line, its help and the defaults are made from these fields; a test keeps
    `MLproject` equal to them.
    """

    trials: int = Field(
        50, ge=1, le=100_000, description="total number of finished trials (complete + pruned)"
    )
    timeout: float = Field(0, ge=0, description="time limit of the study in seconds; 0 = no limit")
    study: StudyName = Field(
        AUTO, description="name of the study; an existing one is resumed, auto = a new name"
    )
    storage: StorageUrl = Field(
        "sqlite:///optuna.db", description="Optuna storage URL (SQLite, PostgreSQL or MySQL)"
    )
    data: str = Field(
        "fer2013",
        min_length=1,
        description="fer2013 (from Kaggle), synthetic, a folder, or a CSV of pixels",
    )
    faces: Annotated[str, one_of(FACES)] = Field(
        ORIGINAL, description="cleaned = do not train on images voted to show no face"
    )
    votes: str = Field(NONE, min_length=1, description="CSV of FER+ votes by path, for cleaned")
    limit: int = Field(
        0,
        ge=0,
        description="at most this many training and as many validation images, stratified; 0 = all",
    )
    backbones: Annotated[tuple[Annotated[str, one_of(BACKBONES)], ...], Listed] = Field(
        ("vgg16", "resnet50"),
        min_length=1,
        description=f"backbones to search: {','.join(BACKBONES)}",
    )
    hypermodel: Annotated[str, pydantic.AfterValidator(_place_of_hypermodel)] = Field(
        NONE, description="module:name of a KerasTuner HyperModel to search instead of our networks"
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="imagenet, none, or a weights file; {backbone} is filled in",
    )
    image_sizes: Annotated[tuple[_ImageSize, ...], Listed] | Literal["auto"] = Field(
        "auto", description="image sizes to search, e.g. 48,96; auto = depends on the device"
    )
    epochs: int = Field(20, ge=1, le=10_000, description="maximum number of epochs per trial")
    warm_start: StudyName = Field(
        NONE,
        description="study with the same storage and data whose best trials are tried first",
    )
    sampler: Annotated[str, one_of(SAMPLERS)] = Field(
        AUTO,
        description=f"how parameters are proposed: {', '.join(SAMPLERS)}; auto = mutation if the "
        "study starts from known good points, else tpe",
    )
    pruner: Annotated[str, one_of(PRUNERS)] = Field(
        "asha", description=f"how weak trials are stopped: {', '.join(PRUNERS)}"
    )
    views: Views = Field(
        2, description="also log scores averaged over up to this many views (1, 2 or 10)"
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        1, description="worker processes on this machine; auto = as many as the GPUs hold"
    )
    launcher: Annotated[str, one_of(LAUNCHERS)] = Field(
        LOCAL, description="where workers run: local = on this machine, ray = on a Ray cluster"
    )
    ray_address: str = Field(
        AUTO,
        min_length=1,
        description="HOST:PORT of the Ray cluster; auto = the one running here",
    )
    trials_per_gpu: int = Field(
        1, ge=1, le=64, description="trials that share a GPU if workers=auto"
    )
    retries: int = Field(
        2, ge=0, le=100, description="how often a trial is resumed after its worker died"
    )
    precision: Annotated[str, one_of(PRECISIONS)] = Field(
        AUTO, description=f"training precision: {', '.join(PRECISIONS)}"
    )
    seed: int = Field(
        42, ge=0, lt=2**32, description="seed of everything random, combined with the trial number"
    )
    register_: Annotated[str, one_of(REGISTER)] = Field(
        "all",
        alias="register",
        description=f"which completed trials become model versions: {', '.join(REGISTER)}",
    )
    registered_model: ModelName = Field("fer-emotion", description="name in the model registry")

    @pydantic.field_validator("image_sizes")
    @classmethod
    def _some_size(cls, sizes: tuple[int, ...] | str) -> tuple[int, ...] | str:
        if not sizes:
            raise ValueError("expected at least one size, e.g. 48,96, or auto")
        return sizes

    def anchored(self, directory: Path) -> Self:
        """Make relative paths absolute, starting from `directory`.

        Raises:
            ConfigError: If `data`, `votes` or `weights` is neither a known name nor an existing
                path.
        """
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

    def resumed_by(self, asked: SearchConfig) -> SearchConfig:
        """Return these stored settings, changed as a resume may change them.

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
                    f"{name}={given[name]}: study {self.study} has {name}={stored[name]}"
                    for name in refused
                ),
                hint=f"omit {', '.join(refused)} to resume, or name another study; "
                f"you can change: {', '.join(sorted(MOVABLE))}",
            )
        moved = {name: value for name, value in given.items() if name in MOVABLE}
        moved |= {name: wanted[name] for name in _OF_THE_MOMENT}
        return SearchConfig(**stored | moved)


class WorkerConfig(Request):
    """A worker that joins a study: the parameters of the command `worker`."""

    study: StudyName = Field(description="name of the study to join")
    storage: StorageUrl = Field(
        "sqlite:///optuna.db", description="Optuna storage URL of the study"
    )
    parent: int = Field(0, ge=0, description="PID of the process to stop with; 0 = none")


DEMO: Mapping[str, Any] = {
    "trials": 3,
    "data": "synthetic",
    "backbones": "tiny",
    "weights": "none",
    "image_sizes": "48",
    "epochs": 5,
    "pruner": "none",
    "registered_model": "fer-emotion-demo",  # must not compete with models of real faces
}
"""Where the `demo` command differs from the defaults of a search."""


def weights_for(backbone: str, weights: str) -> str:
    """Replace `{backbone}` in `weights` with the name of the backbone."""
    return weights.replace("{backbone}", backbone)


def _existing(path: Path, name: str, known: Iterable[str]) -> Path:
    if not path.exists():
        raise ConfigError(
            f"{name}={path}: no such file or folder", hint=f"known names: {', '.join(known)}"
        )
    return path
