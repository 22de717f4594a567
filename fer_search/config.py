"""What goes down: a search as a person asks for it, and a trial as the study suggests it.

Both are frozen and validated at birth, so nothing behind this module checks a setting again. Legal
names are tuples here, cheap to import; a test keeps them equal to the catalogues that implement
them. What is *searched* (ranges) stands in `study/space.py`; here stands what is *possible*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, urlsplit

import pydantic
from pydantic import Field

from fer_search.errors import ConfigError

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
STORAGES = ("sqlite", "postgresql", "mysql")
SMALLEST_IMAGE, LARGEST_IMAGE = 32, 512
"""VGG16 and ResNet50 halve a picture five times, so 32 pixels is the least."""

VIEWS = (1, 2, 10)
AUTO, NONE = "auto", "none"
MOVABLE = frozenset({"trials", "timeout", "views", "workers", "precision"})
"""Settings that may change when a study is resumed."""
_ADDRESS = frozenset({"study", "storage"})
"""How a study is found, hence the same by nature."""


class _Frozen(pydantic.BaseModel):
    """Immutable, without unknown fields; a refusal is a `ConfigError` that names every fault."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise _refusal(type(self), error) from None


def _one_of(names: Iterable[str]) -> pydantic.BeforeValidator:
    known = tuple(names)

    def check(value: Any) -> Any:
        if value not in known:
            raise ValueError(f"unknown name; known: {', '.join(known)}")
        return value

    return pydantic.BeforeValidator(check)


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


class SearchConfig(_Frozen):
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
    faces: Annotated[str, _one_of(FACES)] = Field(
        ORIGINAL, description="cleaned = do not train on what the votes call no face"
    )
    votes: str = Field(NONE, min_length=1, description="CSV of FER+ votes by path, for cleaned")
    limit: int = Field(
        0,
        ge=0,
        description="at most so many training and so many validation images, stratified; 0 = all",
    )
    backbones: Annotated[tuple[Annotated[str, _one_of(BACKBONES)], ...], _List] = Field(
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
    sampler: Annotated[str, _one_of(SAMPLERS)] = Field(
        "tpe", description=f"how parameters are proposed: {', '.join(SAMPLERS)}"
    )
    pruner: Annotated[str, _one_of(PRUNERS)] = Field(
        "hyperband", description=f"how weak trials are stopped: {', '.join(PRUNERS)}"
    )
    views: Annotated[int, pydantic.AfterValidator(_views)] = Field(
        2, description="views of a picture (1, 2 or 10) up to which metrics are also logged"
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        1, description="worker processes on this machine; auto = one per GPU"
    )
    precision: Annotated[str, _one_of(PRECISIONS)] = Field(
        AUTO, description=f"arithmetic of training: {', '.join(PRECISIONS)}"
    )
    seed: int = Field(
        42, ge=0, lt=2**32, description="everything random derives from it and the trial number"
    )
    register_: Annotated[str, _one_of(REGISTER)] = Field(
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

    @pydantic.model_validator(mode="after")
    def _votes_are_used(self) -> Self:
        if (self.faces == CLEANED) != (self.votes != NONE):
            raise ValueError("faces=cleaned and votes=CSV belong together: expected both or none")
        return self

    def to_params(self) -> dict[str, str]:
        """Spell every setting as on the command line; `SearchConfig(**params)` reads it back."""
        return {name: _spelled(value) for name, value in self.model_dump(by_alias=True).items()}

    def anchored(self, directory: Path) -> Self:
        """Make relative paths absolute, as meant from `directory`.

        Raises:
            ConfigError: If `data` or `weights` names neither a known source nor an existing path.
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


class WorkerConfig(_Frozen):
    """A worker that joins a study: the parameters of the command `worker`."""

    study: _StudyName = Field(description="name of the study to join")
    storage: _Storage = Field("sqlite:///optuna.db", description="Optuna storage URL of the study")
    parent: int = Field(0, ge=0, description="process with which to stop; 0 = none")


class PromotionConfig(_Frozen):
    """A promotion: the parameters of `mlflow run . -e promote`."""

    registered_model: _ModelName = Field("fer-emotion", description="name in the model registry")
    version: Annotated[int, Field(ge=1)] | Literal["challenger"] = Field(
        "challenger", description="which version; challenger = the best of the newest study"
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


class Augmentation(_Frozen):
    """How much training pictures are varied; 0 is the identity, whatever the kind."""

    KINDS: ClassVar[tuple[str, ...]] = (
        "rotation", "shift", "zoom", "flip", "brightness", "contrast", "erasing",
    )  # fmt: skip

    rotation: float = Field(0, ge=0, le=45)
    """Largest turn to either side, degrees."""
    shift: float = Field(0, ge=0, le=0.5)
    """Largest shift along each axis, as a share of the side."""
    zoom: float = Field(0, ge=0, le=0.5)
    """Largest change of scale, as a share."""
    flip: bool = False
    """Mirror left and right with probability one half."""
    brightness: float = Field(0, ge=0, le=1)
    """Largest change of brightness, as a share of the full range."""
    contrast: float = Field(0, ge=0, lt=1)
    """Largest change of contrast, as a share."""
    erasing: float = Field(0, ge=0, le=1)
    """Probability that a random rectangle is blanked."""


class TrialConfig(_Frozen):
    """One trial, complete: the same config on the same data trains the same model."""

    backbone: Annotated[str, _one_of(BACKBONES)]
    weights: str = Field("none", min_length=1)
    """`imagenet`, `none`, or the path of a weights file for this backbone."""
    image_size: int = Field(48, ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)
    """Side in pixels to which faces are scaled before the backbone."""
    unfreeze_depth: int = Field(STAGES, ge=0, le=STAGES)
    """Stages of the backbone that train, counted from its output; 0 trains the head alone."""
    batch_norm: Annotated[str, _one_of(BATCH_NORMS)] = "stage"
    """Which BatchNormalization of the backbone learns from the batches: that of the stages that
    train (`stage`), none (`frozen`: pretrained statistics and scales stay), or all (`trainable`).
    """
    pooling: Annotated[str, _one_of(POOLINGS)] = "avg"
    """How the last feature maps become one vector."""
    head_units: int = Field(0, ge=0, le=8192)
    """Width of a hidden layer in the head; 0 for none."""
    dropout: float = Field(0.4, ge=0, lt=1)
    optimizer: Annotated[str, _one_of(OPTIMIZERS)] = "adamw"
    learning_rate: float = Field(3e-4, gt=0, le=10)
    """Of the head, at the end of the warm-up."""
    weight_decay: float = Field(1e-3, ge=0, lt=1)
    """Decoupled, multiplied by the learning rate of the step; biases and scales are spared."""
    backbone_rate: float = Field(1.0, gt=0, le=1)
    """Learning rate of the backbone as a share of the head's."""
    schedule: Annotated[str, _one_of(SCHEDULES)] = "cosine"
    """Of the learning rate: half a cosine down to 0, or halved where validation stands still."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0."""
    head_warmup: int = Field(0, ge=0)
    """First epochs in which the head alone trains, at its full rate; less than `epochs`."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of the gradient over all weights; 0 for no limit."""
    ema_decay: float = Field(0, ge=0, lt=1)
    """Of the moving average of the weights that is validated and kept; 0 for the weights as they
    are."""
    batch_size: int = Field(64, ge=1, le=8192)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0, ge=0, le=10)
    """α of mixup; 0 mixes nothing."""
    class_weight_power: float = Field(0.5, ge=0, le=1)
    """β of class weights n^-β: 0 for none, 1 for balanced."""
    balanced_sampling: bool = False
    """Every emotion comes equally often in an epoch; an alternative to class weights."""
    focal_gamma: float = Field(0, ge=0, le=10)
    """γ of the focal loss, an alternative to class weights; 0 is cross-entropy."""
    augmentation: Augmentation = Augmentation()
    epochs: int = Field(20, ge=1, le=10_000)
    patience: int = Field(6, ge=1)
    """Training ends after so many epochs without a better validation macro-F1."""
    seed: int = Field(0, ge=0, lt=2**32)

    @pydantic.model_validator(mode="after")
    def _compatible(self) -> Self:
        remedies = {
            "class_weight_power": self.class_weight_power,
            "balanced_sampling": self.balanced_sampling,
            "focal_gamma": self.focal_gamma,
        }
        if len(used := [name for name, value in remedies.items() if value]) > 1:
            raise ValueError(f"{' and '.join(used)} both correct the imbalance; expected one")
        if self.head_warmup >= self.epochs:
            raise ValueError(f"head_warmup={self.head_warmup} leaves none of {self.epochs} epochs")
        return self

    def to_params(self) -> dict[str, str | int | float]:
        """Flatten into names and plain values, `augmentation.rotation` for nested ones."""
        params: dict[str, str | int | float] = {}
        for name, value in self.model_dump().items():
            nested = value if isinstance(value, dict) else {}
            params |= {f"{name}.{key}": _plain(inner) for key, inner in nested.items()}
            if not nested:
                params[name] = _plain(value)
        return params

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Read back what `to_params` gave, from plain values or from MLflow's strings.

        Raises:
            ConfigError: If a name is unknown or a value is not possible.
        """
        values: dict[str, Any] = {}
        for name, value in params.items():
            group, dot, key = name.partition(".")
            if dot:
                values.setdefault(group, {})[key] = value
            else:
                values[name] = value
        return cls(**values)


def weights_for(backbone: str, weights: str) -> str:
    """Put the name of the backbone where `weights` says `{backbone}`."""
    return weights.replace("{backbone}", backbone)


def _existing(path: Path, name: str, known: Iterable[str]) -> Path:
    if not path.exists():
        raise ConfigError(
            f"{name}={path}: no such file or folder", hint=f"known names: {', '.join(known)}"
        )
    return path


def _plain(value: Any) -> str | int | float:
    """Booleans as 0 and 1, so that the tracking UI can plot them."""
    return int(value) if isinstance(value, bool) else value


def _spelled(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(str(part) for part in value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _refusal(cls: type[_Frozen], error: pydantic.ValidationError) -> ConfigError:
    """Turn pydantic's report into one line per fault: name, value, what was expected."""
    known = [field.alias or name for name, field in cls.model_fields.items()]
    lines: dict[str, str] = {}
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            lines[name] = f"{name} is not a parameter; known: {', '.join(known)}"
            continue
        said = re.sub(r"^(Value error, |Input should be )", "", fault["msg"])
        if not name:  # about several settings at once
            lines[said] = said
            continue
        if "literal_error" in fault["type"] and name in lines:  # the second half of a union
            lines[name] += f", or {said}"
        else:
            lines.setdefault(name, f"{name}={_spelled(fault['input'])}: expected {said}"
                             if "Value error" not in fault["msg"]
                             else f"{name}={_spelled(fault['input'])}: {said}")  # fmt: skip
    return ConfigError(
        "\n".join(lines.values()), hint="python -m fer_search COMMAND --help lists the parameters"
    )
