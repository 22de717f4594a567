"""The network in two views: as it is trained and as it is stored.

    face (48, 48, 1), 0..255
      -> augmentation             in the training view only
      -> Resizing                 unless the image already has this size
      -> three equal channels -> preprocessing -> backbone          see `backbones`
      -> pooling -> LayerNormalization -> Dropout -> [Dense -> Dropout]
      -> probabilities (7,)

`training` trains the network that `build` returns, and returns an `inference_copy` of it: float32,
without augmentation, of Keras's own layers only, so that its `.keras` file loads without this
package.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
from keras import layers

from fer_search.config import EMOTIONS, FACE_SIZE
from fer_search.model import augmentation
from fer_search.model.backbones import BACKBONES, NO_WEIGHTS, first_trained, unfreeze
from fer_search.trial_config import TrialConfig

_NORM = "norm"
_CALIBRATION_BATCH = 32
_LEAST_DEVIATION = 0.05
"""Features with a smaller deviation over the images are scaled as if they had this one."""


def build(config: TrialConfig) -> keras.Model:
    """Build the network to train, under Keras's current dtype policy.

    The initial weights are drawn with Keras's global seed; the backbone then gets its pretrained
    ones, if any, and its first stages are frozen according to `config.unfreeze_depth`.

    Args:
        config: The trial's hyperparameters.

    Returns:
        A model from faces (B, 48, 48, 1), uint8 or float in 0..255, to probabilities (B, 7) in
        float32, not compiled. Its backbone is the layer named `config.backbone`.

    Raises:
        WeightsError: If the pretrained weights are unavailable or belong to another network.
    """
    varied = augmentation.build(config.augmentation, config.seed)
    model = _network(config, weights=config.weights, varied=varied)
    freeze(model, config)
    return model


def freeze(model: keras.Model, config: TrialConfig, *, head_only: bool = False) -> None:
    """Make exactly what the trial says trainable; takes effect when `model` is compiled next.

    Args:
        model: The network that `build` returned for `config`.
        config: The trial's hyperparameters.
        head_only: Whether to freeze the whole backbone, whatever the trial says.
    """
    backbone = model.get_layer(config.backbone)
    backbone.trainable = not head_only
    if not head_only:
        unfreeze(backbone, config.backbone, config.unfreeze_depth, batch_norm=config.batch_norm)


def cut(model: keras.Model, config: TrialConfig) -> tuple[keras.Model, keras.Model]:
    """Cut a network where its trainable stages begin; both parts share its weights.

    Args:
        model: The network that `build` returned for `config`.
        config: The trial's hyperparameters.

    Returns:
        A model from faces (B, 48, 48, 1), already augmented, to the features after the frozen
        stages, and one from these to probabilities (B, 7).
    """
    first, second = _halves(model, config)
    faces = layers.Input((FACE_SIZE, FACE_SIZE, 1))
    x = _preprocessed(faces, config)
    for part in first:
        x = part(x)
    frozen = keras.Model(faces, x, name="frozen_part")
    features = y = layers.Input(x.shape[1:], dtype=x.dtype)
    for part in second:
        y = part(y)
    return frozen, keras.Model(features, y, name="training_part")


def inference_copy(model: keras.Model, config: TrialConfig) -> keras.Model:
    """Copy a trained network for storage: float32, without augmentation, with its current weights.

    Args:
        model: The network that `build` returned for `config`.
        config: The trial's hyperparameters.

    Returns:
        A model with the same inputs and outputs, not compiled.
    """
    with dtype_policy("float32"):
        copy = _network(config, weights=NO_WEIGHTS, varied=())
    copy.set_weights(model.get_weights())
    return copy


def calibrate(model: keras.Model, faces: np.ndarray) -> None:
    """Standardise the initial features: mean 0 and deviation 1 over some training images.

    Some of VGG16's pooled features are a hundred times as large as others, so that after
    LayerNormalization alone the differences between faces are small compared with those between
    features, and the head learns slowly. Its scale and offset are therefore set from the data, and
    train from there. Source: https://arxiv.org/abs/1511.06856.

    Args:
        model: The network that `build` returned, untrained.
        faces: A few hundred training images in random order, (N, 48, 48), uint8.
    """
    norm = model.get_layer(_NORM)
    features = keras.Model(model.input, norm.output).predict(
        faces[..., None], batch_size=_CALIBRATION_BATCH, verbose=0
    )
    features = np.asarray(features, np.float32)
    scale = 1 / np.maximum(features.std(axis=0), _LEAST_DEVIATION)
    norm.set_weights([scale, -features.mean(axis=0) * scale])


def _network(
    config: TrialConfig, *, weights: str, varied: Iterable[keras.layers.Layer]
) -> keras.Model:
    faces = x = layers.Input((FACE_SIZE, FACE_SIZE, 1), name="faces")
    for layer in varied:
        x = layer(x)
    x = BACKBONES[config.backbone].build(config.image_size, weights)(_preprocessed(x, config))
    x = POOLINGS[config.pooling](name="pooling")(x)
    x = layers.LayerNormalization(name=_NORM)(x)  # has no running statistics that lag behind
    x = layers.Dropout(config.dropout, name="dropout")(x)
    if config.head_units:
        x = layers.Dense(config.head_units, activation="relu", name="hidden")(x)
        x = layers.Dropout(config.dropout, name="hidden_dropout")(x)
    # Zeros, so that the backbone gets no gradient before the head has learnt anything.
    probabilities = layers.Dense(
        len(EMOTIONS),
        activation="softmax",
        kernel_initializer="zeros",
        dtype="float32",
        name="emotions",
    )(x)
    return keras.Model(faces, probabilities, name="emotion_classifier")


def _preprocessed(x: keras.KerasTensor, config: TrialConfig) -> keras.KerasTensor:
    """Turn grey faces into the input of the backbone."""
    backbone = BACKBONES[config.backbone]
    if config.image_size != FACE_SIZE:
        size = (config.image_size, config.image_size)
        x = layers.Resizing(*size, interpolation="bilinear", dtype="float32", name="resizing")(x)
    x = layers.Concatenate(dtype="float32", name="three_channels")([x, x, x])
    return layers.Rescaling(
        backbone.scale, list(backbone.offset), dtype="float32", name="preprocessing"
    )(x)


def _halves(
    model: keras.Model, config: TrialConfig
) -> tuple[list[keras.layers.Layer], list[keras.layers.Layer]]:
    """Cut what follows preprocessing where the frozen stages end, or after the pooling."""
    backbone = model.get_layer(config.backbone)
    head = model.layers[model.layers.index(backbone) + 1 :]
    name = first_trained(backbone, config.backbone, config.unfreeze_depth)
    if name is None:
        return [backbone, head[0]], head[1:]
    border = backbone.get_layer(name).input
    return [keras.Model(backbone.input, border)], [keras.Model(border, backbone.output), *head]


POOLINGS: dict[str, Callable[..., keras.layers.Layer]] = {
    "avg": layers.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
    "flatten": layers.Flatten,
}
"""Layers from feature maps to a vector, by name; the names are `config.POOLINGS`."""


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras's global dtype policy temporarily."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
