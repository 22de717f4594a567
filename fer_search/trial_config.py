"""One trial as the study suggests it; what is *searched* (ranges) is in `study/space.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from fer_search.config import (
    BACKBONES,
    BATCH_NORMS,
    LARGEST_IMAGE,
    OPTIMIZERS,
    POOLINGS,
    SCHEDULES,
    SMALLEST_IMAGE,
    STAGES,
)
from fer_search.settings import Frozen, one_of


class Augmentation(Frozen):
    """How much training images are varied; 0 is the identity for each of the changes."""

    rotation: float = Field(0, ge=0, le=45)
    """Largest rotation to either side, in degrees."""
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


class TrialConfig(Frozen):
    """All hyperparameters of a trial: the same config on the same data trains the same model."""

    backbone: Annotated[str, one_of(BACKBONES)]
    weights: str = Field("none", min_length=1)
    """`imagenet`, `none`, or the path of a weights file for this backbone."""
    image_size: int = Field(48, ge=SMALLEST_IMAGE, le=LARGEST_IMAGE)
    """Side in pixels to which faces are scaled before the backbone."""
    unfreeze_depth: int = Field(STAGES, ge=0, le=STAGES)
    """Stages of the backbone that train, counted from its output; 0 trains the head alone."""
    batch_norm: Annotated[str, one_of(BATCH_NORMS)] = "stage"
    """Which BatchNormalization layers of the backbone learn from the batches: those of the stages
    that train (`stage`), none (`frozen`: pretrained statistics and scales stay), or all
    (`trainable`)."""
    pooling: Annotated[str, one_of(POOLINGS)] = "avg"
    """How the last feature maps become one vector."""
    head_units: int = Field(0, ge=0, le=8192)
    """Width of a hidden layer in the head; 0 for none."""
    dropout: float = Field(0.4, ge=0, lt=1)
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "adamw"
    learning_rate: float = Field(3e-4, gt=0, le=10)
    """Learning rate of the head, at the end of the warm-up."""
    weight_decay: float = Field(1e-3, ge=0, lt=1)
    """Decoupled, multiplied by the learning rate of the step; biases and scales are exempt."""
    backbone_rate: float = Field(1.0, gt=0, le=1)
    """Learning rate of the backbone as a share of the head's."""
    schedule: Annotated[str, one_of(SCHEDULES)] = "cosine"
    """How the learning rate falls: half a cosine to 0, or halved when validation stagnates."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps over which the learning rate rises from 0."""
    head_warmup: int = Field(0, ge=0)
    """Number of first epochs that train only the head, at its full rate; less than `epochs`."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of the gradient over all weights; 0 for no limit."""
    ema_decay: float = Field(0, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and kept; 0 for no average."""
    batch_size: int = Field(64, ge=1, le=8192)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixup: float = Field(0, ge=0, le=10)
    """α of mixup; 0 mixes nothing."""
    class_weight_power: float = Field(0.5, ge=0, le=1)
    """β of class weights n^-β: 0 for none, 1 for balanced."""
    balanced_sampling: bool = False
    """Whether every emotion occurs equally often in an epoch; an alternative to class weights."""
    focal_gamma: float = Field(0, ge=0, le=10)
    """γ of the focal loss, an alternative to class weights; 0 is cross-entropy."""
    augmentation: Augmentation = Augmentation()
    epochs: int = Field(20, ge=1, le=10_000)
    patience: int = Field(6, ge=1)
    """Training ends after this many epochs without a better validation macro-F1."""
    seed: int = Field(0, ge=0, lt=2**32)

    @pydantic.model_validator(mode="after")
    def _compatible(self) -> Self:
        remedies = {
            "class_weight_power": self.class_weight_power,
            "balanced_sampling": self.balanced_sampling,
            "focal_gamma": self.focal_gamma,
        }
        if len(used := [name for name, value in remedies.items() if value]) > 1:
            raise ValueError(f"{' and '.join(used)} correct the imbalance; expected at most one")
        if self.head_warmup >= self.epochs:
            raise ValueError(f"head_warmup={self.head_warmup} must be < epochs={self.epochs}")
        return self

    def to_params(self) -> dict[str, str | int | float]:
        """Flatten into names and plain values; nested names read like `augmentation.rotation`."""
        params: dict[str, str | int | float] = {}
        for name, value in self.model_dump().items():
            nested = value if isinstance(value, dict) else {}
            params |= {f"{name}.{key}": _plain(inner) for key, inner in nested.items()}
            if not nested:
                params[name] = _plain(value)
        return params

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Restore a config from what `to_params` returned, as plain values or MLflow's strings.

        Raises:
            ConfigError: If a name is unknown or a value is invalid.
        """
        values: dict[str, Any] = {}
        for name, value in params.items():
            group, dot, key = name.partition(".")
            if dot:
                values.setdefault(group, {})[key] = value
            else:
                values[name] = value
        return cls(**values)


def _plain(value: Any) -> str | int | float:
    """Turn booleans into 0 and 1, so that the tracking UI can plot them."""
    return int(value) if isinstance(value, bool) else value
