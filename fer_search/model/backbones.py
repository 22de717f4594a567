"""Backbones: networks that turn a face into features, divided into five named stages.

`classifier` puts one between preprocessing and head; `unfreeze` sets which of its stages train.
Adding one takes an entry in `BACKBONES` and its name in `config.BACKBONES`, nothing else.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_search.config import SMALLEST_IMAGE
from fer_search.errors import WeightsError
from fer_search.model.batch_norm import fuse
from fer_search.model.convolutions import as_products

NO_WEIGHTS, IMAGENET = "none", "imagenet"
"""Values of `weights` other than the path of a file."""

_BATCH_NORM_MOMENTUM = 0.9
"""Momentum of the running statistics. Keras's 0.99 takes several hundred steps to forget the
initial ones; until then validation looks like chance, and pruners judge by the first epochs."""

_Network = Callable[[int, str | None], Any]
"""Builds a `keras.Model` from the side of the images and Keras's own `weights` argument."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """An entry of `BACKBONES`."""

    network: _Network
    application: str
    """Name in `keras.applications`, which has its ImageNet weights; empty if there are none."""
    scale: float
    """Pixels in 0..255 are multiplied by this, then `offset` is added, as the weights expect."""
    offset: tuple[float, float, float]
    """Offset per channel."""
    stages: Mapping[str, tuple[str, ...]]
    """Five stages from input to output: name to the prefixes of its layers' names."""
    poolings: tuple[str, ...]
    """Poolings allowed for its last feature map; see `classifier.POOLINGS`."""
    has_batch_norm: bool = False
    """Whether it has BatchNormalization, whose statistics would not fit averaged weights."""
    head_units: int = 0
    """Default width of the head's hidden layer; 0 for none."""
    one_pixel_below: int = 0
    """Image size below which its last feature map is one pixel and all poolings are equal."""

    def build(self, image_size: int, weights: str = NO_WEIGHTS) -> Any:
        """Build the network under Keras's current dtype policy.

        Args:
            image_size: Side of the square images in pixels, at least 32.
            weights: `imagenet`, `none`, or the path of a weights file.

        Returns:
            A `keras.Model` from scaled images (B, image_size, image_size, 3) to feature maps.

        Raises:
            WeightsError: If the weights are unavailable or belong to another network.
        """
        if weights == IMAGENET:
            model = self._pretrained(image_size)
        else:
            model = self.network(image_size, None)
            if weights != NO_WEIGHTS:
                _load(model, Path(weights).expanduser())
        for layer in model.layers:
            if hasattr(layer, "moving_mean"):
                layer.momentum = _BATCH_NORM_MOMENTUM
        fuse(model)
        as_products(model)
        return model

    def stage_of(self, layer: str) -> str:
        """Return the name of the stage that a layer with weights belongs to.

        Raises:
            ValueError: If the stages do not cover the layer exactly once.
        """
        found = [stage for stage, starts in self.stages.items() if layer.startswith(starts)]
        if len(found) != 1:
            raise ValueError(f"layer {layer} is in {len(found)} of the stages {list(self.stages)}")
        return found[0]

    def _pretrained(self, image_size: int) -> Any:
        if not self.application:
            raise WeightsError(
                "this backbone has no ImageNet weights",
                hint="use weights=none to train it from scratch, or other backbones",
            )
        try:
            return self.network(image_size, IMAGENET)
        except Exception as error:  # Keras raises no narrower class when a download fails
            file = f"{self.application.lower()}.weights.h5"
            raise WeightsError(
                f"no ImageNet weights of {self.application}: {_in_short(error)}",
                hint="use weights=none to train from scratch. Or, on a machine with a network, run "
                f"keras.applications.{self.application}(include_top=False).save_weights('{file}'),"
                f" and use weights={file} here; or copy its ~/.keras/models to this machine",
            ) from error


def unfreeze(model: Any, name: str, depth: int, *, batch_norm: str = "stage") -> None:
    """Make the last stages of a backbone trainable and freeze the others.

    A frozen BatchNormalization also uses its running statistics while the rest trains: that is
    Keras's rule for `trainable=False`.

    Args:
        model: The network that `BACKBONES[name].build` returned.
        name: Name of the backbone.
        depth: Number of stages that train, counted from the output, in [0, 5].
        batch_norm: Which BatchNormalization layers train: those of these stages (`stage`), none
            (`frozen`) or those of all stages (`trainable`).
    """
    backbone = BACKBONES[name]
    stages = list(backbone.stages)
    training = stages[len(stages) - depth :]
    for layer in model.layers:
        if not layer.weights:
            continue
        layer.trainable = backbone.stage_of(layer.name) in training
        if hasattr(layer, "moving_mean") and batch_norm != "stage":
            layer.trainable = batch_norm == "trainable"


def first_trained(model: Any, name: str, depth: int) -> str | None:
    """Return the name of the first layer of the stages that train; None if no stage trains.

    Args:
        model: The network that `BACKBONES[name].build` returned.
        name: Name of the backbone.
        depth: Number of stages that train, counted from the output, in [0, 5].
    """
    backbone = BACKBONES[name]
    training = list(backbone.stages)[len(backbone.stages) - depth :]
    names = (layer.name for layer in model.layers if layer.weights)
    return next((each for each in names if backbone.stage_of(each) in training), None)


def check_weights(name: str, weights: str) -> None:
    """Fetch or read pretrained weights, so that a search without them is refused before any trial.

    Args:
        name: Name of the backbone.
        weights: `imagenet`, `none`, or the path of a weights file.

    Raises:
        WeightsError: If the weights are unavailable or belong to another network.
    """
    if weights == NO_WEIGHTS:
        return
    try:
        BACKBONES[name].build(SMALLEST_IMAGE, weights)
    except WeightsError as error:
        raise WeightsError(f"weights={weights} for {name}: {error.message}", error.hint) from error


def _load(model: Any, file: Path) -> None:
    if not file.is_file():
        raise WeightsError(f"{file} is not a file", hint="use weights=none to train from scratch")
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about layers that Keras skips, see below
            model.load_weights(file)
        missing = [weight.path for weight in model.weights if np.isnan(weight.numpy()).any()]
        if missing:
            raise ValueError(f"it has no weights for {', '.join(missing)}")
    except (OSError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{file} does not fit {model.name}: {_in_short(error)}",
            hint="expected a file that Model.save_weights('….weights.h5') wrote for this network "
            "with include_top=False",
        ) from error


def _in_short(error: Exception) -> str:
    """Shorten one of Keras's long messages to 240 characters on one line."""
    return re.sub(r"\s+", " ", str(error)).strip()[:240]


def _vgg16(image_size: int, weights: str | None) -> Any:
    import keras

    return keras.applications.VGG16(
        include_top=False, weights=weights, input_shape=(image_size, image_size, 3)
    )


def _resnet50(image_size: int, weights: str | None) -> Any:
    import keras

    return keras.applications.ResNet50(
        include_top=False, weights=weights, input_shape=(image_size, image_size, 3)
    )


def _tiny(image_size: int, _weights: str | None) -> Any:
    """VGG in miniature, about 190,000 weights: five times convolution, pooling, norm and ReLU.

    GroupNormalization has no running statistics, so validation is right from the first epoch, and
    it keeps the contrast within an image, without which a small network is slow to start. After
    pooling it has a quarter of the work.
    """
    from keras import Model, layers

    inputs = x = layers.Input((image_size, image_size, 3))
    for i, filters in enumerate((16, 32, 64, 96, 128), start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"stage{i}_conv")(x)
        x = layers.MaxPooling2D(name=f"stage{i}_pool")(x)
        x = layers.GroupNormalization(8, name=f"stage{i}_norm")(x)
        x = layers.Activation("relu", name=f"stage{i}_relu")(x)
    return Model(inputs, x, name="tiny")


_CAFFE: dict[str, Any] = {"scale": 1.0, "offset": (-103.939, -116.779, -123.68)}
"""Subtracts ImageNet's mean colour, blue first, as both applications' `preprocess_input` does."""

BACKBONES: dict[str, Backbone] = {
    "vgg16": Backbone(  # https://arxiv.org/abs/1409.1556
        network=_vgg16,
        application="VGG16",
        **_CAFFE,
        stages={f"block{i}": (f"block{i}_",) for i in range(1, 6)},
        poolings=("avg", "max", "flatten"),
        head_units=512,
        one_pixel_below=64,
    ),
    "resnet50": Backbone(  # https://arxiv.org/abs/1512.03385
        network=_resnet50,
        application="ResNet50",
        **_CAFFE,
        stages={"conv1": ("conv1_", "pool1_"), **{f"conv{i}": (f"conv{i}_",) for i in range(2, 6)}},
        poolings=("avg", "max"),
        has_batch_norm=True,
    ),
    "tiny": Backbone(
        network=_tiny,
        application="",
        scale=1 / 127.5,
        offset=(-1.0, -1.0, -1.0),
        stages={f"stage{i}": (f"stage{i}_",) for i in range(1, 6)},
        poolings=("avg",),
    ),
}
"""Backbones by name; the names are `config.BACKBONES`."""
