"""Augmentation of training images: one Keras layer for each kind in `trial_config.Augmentation`.

`classifier` puts the layers in front of the network, in the training view only. They compute in
float32 whatever the training precision, because bfloat16 is too coarse for coordinates, and they
keep pixels within 0..255. A new kind is a field of `trial_config.Augmentation` and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fer_search.trial_config import Augmentation

_PIXELS = (0, 255)
_FILL = "nearest"
"""Repeat the edge of the image beyond its border, which all Keras backends do alike."""


def build(augmentation: Augmentation, seed: int) -> list[Any]:
    """Make the layers of all kinds whose strength is not 0, in the order of `AUGMENTATIONS`.

    Args:
        augmentation: Strength of each kind.
        seed: Seed in [0, 2**32); each kind draws from its own stream.

    Returns:
        Keras layers that map (B, H, W, C), float in 0..255, to the same in float32, and do nothing
        at inference.
    """
    import keras

    layers = []
    seeds = np.random.SeedSequence(seed).generate_state(len(AUGMENTATIONS))
    for (kind, make), layer_seed in zip(AUGMENTATIONS.items(), seeds, strict=True):
        if strength := float(getattr(augmentation, kind)):
            layer = make(strength, name=kind, seed=int(layer_seed) % 2**31, dtype="float32")
            # Keras marks layers that XLA cannot compile on TensorFlow as not compilable at all;
            # JAX would then run the whole model step by step.
            layer.supports_jit |= keras.backend.backend() == "jax"
            layers.append(layer)
    return layers


def _rotation(degrees: float, **common: Any) -> Any:
    from keras import layers

    return layers.RandomRotation(degrees / 360, fill_mode=_FILL, **common)


def _shift(share: float, **common: Any) -> Any:
    from keras import layers

    return layers.RandomTranslation(share, share, fill_mode=_FILL, **common)


def _zoom(share: float, **common: Any) -> Any:
    from keras import layers

    return layers.RandomZoom(share, fill_mode=_FILL, **common)  # one factor keeps the aspect ratio


def _flip(_on: float, **common: Any) -> Any:
    from keras import layers

    return layers.RandomFlip("horizontal", **common)


def _brightness(share: float, **common: Any) -> Any:
    from keras import layers

    return layers.RandomBrightness(share, value_range=_PIXELS, **common)


def _contrast(share: float, **common: Any) -> Any:
    from keras import layers

    # A pair, because Keras reads a single number as (0, share): contrast would only ever rise.
    return layers.RandomContrast((share, share), value_range=_PIXELS, **common)


def _erasing(probability: float, **common: Any) -> Any:
    """Random erasing with noise, on 2 to 33 % of the image; https://arxiv.org/abs/1708.04896."""
    from keras import layers

    # A pair, because Keras draws the probability from (0, p) when it gets a single number.
    return layers.RandomErasing((probability, probability), value_range=_PIXELS, **common)


AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "rotation": _rotation,
    "shift": _shift,
    "zoom": _zoom,
    "flip": _flip,
    "brightness": _brightness,
    "contrast": _contrast,
    "erasing": _erasing,
}
"""Each kind, a field of `Augmentation`, to a function that makes its layer from the strength."""
