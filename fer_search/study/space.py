"""The search space: every range that is searched, declared once in KerasTuner's vocabulary.

`suggest` reads an `hp` (KerasTuner's own, or ours that Optuna answers) and returns a `TrialConfig`.
Ranges follow published recipes for FER2013 and our own runs; a parameter that only makes sense
for one optimizer or backbone lives in that branch, under a name of its own, so that it is sampled
jointly within the branch and never crosses into another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras_tuner

from fer_search.config import NONE, STAGES, SearchConfig, weights_for
from fer_search.model.backbones import BACKBONES
from fer_search.study import custom
from fer_search.trial_config import Augmentation, TrialConfig

_MILD: dict[str, Any] = {
    "dropout": 0.1,
    "label_smoothing": 0.0,
    "rotation": 5.0,
    "shift": 0.04,
    "zoom": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "erasing": 0.0,
}
"""Little regularisation, so that some of the first trials learn in short searches too."""
_FEW_EPOCHS = 10
"""In searches with fewer epochs, points with little regularisation come first."""

KNOWN_GOOD: tuple[dict[str, Any], ...] = (
    {
        "backbone": "vgg16",
        "optimizer": "adamw",
        "adamw_learning_rate": 3e-4,
        "adamw_weight_decay": 2e-2,
        "backbone_rate": 0.5,
        "batch_size": 128,
        "ema_decay": 0.999,
        "vgg16_head_units": 0,
        "dropout": 0.5,
        "rotation": 15.0,
        "brightness": 0.0,
        "contrast": 0.0,
    },
    _MILD
    | {
        "backbone": "vgg16",
        "optimizer": "adamw",
        "adamw_learning_rate": 1e-3,
        "backbone_rate": 0.1,
        "batch_size": 32,
        "vgg16_head_units": 0,
    },
    _MILD
    | {"backbone": "tiny", "optimizer": "adamw", "adamw_learning_rate": 3e-3, "batch_size": 32},
    {"backbone": "resnet50", "optimizer": "adamw", "adamw_learning_rate": 1e-4},
    {"backbone": "resnet50", "optimizer": "sgd", "sgd_learning_rate": 1e-2},
)
"""Points to try first; parameters that they leave out take their defaults. All of VGG16 is
fine-tuned: with averaged weights and much regularisation (but no mixup, with which it made no
progress for an epoch and was behind after four), and, for short searches, with little
regularisation and a head ten times as fast as the rest. ResNet50 follows the plain baseline of
Dual-Domain Attention (AdamW at 1e-4) and the common SGD recipe (Nesterov momentum at 0.01)."""


def suggest(hp: keras_tuner.HyperParameters, *, search: SearchConfig, seed: int) -> TrialConfig:
    """Suggest a trial with values from `hp`.

    Args:
        hp: Source of the values; every parameter is registered there, active or not.
        search: Settings that define the space; `image_sizes` must be resolved, not `auto`.
        seed: Seed of this trial, for `TrialConfig.seed`.

    Returns:
        A valid trial. Parameters for which the search leaves no choice are not asked for.
    """
    backbone = hp.Choice("backbone", list(search.backbones))
    pretrained = search.weights != "none"
    image_size = hp.Choice("image_size", list(search.image_sizes))
    depth = {name: _unfreeze_depth(hp, name, pretrained) for name in search.backbones}
    batch_norm = {name: _batch_norm(hp, name, pretrained) for name in search.backbones}
    pooling = {name: _pooling(hp, name, search.image_sizes) for name in search.backbones}
    units = {name: _head_units(hp, name) for name in search.backbones}
    averaged = [name for name in search.backbones if not BACKBONES[name].has_batch_norm]
    ema_decay = _ema_decay(hp, averaged)
    optimizer = hp.Choice("optimizer", ["adamw", "sgd"])
    rates = {"adamw": _adamw(hp), "sgd": _sgd(hp)}
    learning_rate, weight_decay = rates[optimizer]
    return TrialConfig(
        backbone=backbone,
        weights=weights_for(backbone, search.weights),
        image_size=image_size,
        unfreeze_depth=depth[backbone],
        batch_norm=batch_norm[backbone],
        pooling=pooling[backbone],
        head_units=units[backbone],
        dropout=hp.Float("dropout", 0.1, 0.6, default=0.4),
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        backbone_rate=_backbone_rate(hp, pretrained),
        schedule=hp.Choice("schedule", ["cosine", "plateau"]),
        head_warmup=_head_warmup(hp, pretrained, search.epochs),
        clip_norm=hp.Choice("clip_norm", [0.0, 1.0], default=1.0),
        ema_decay=ema_decay if backbone in averaged else 0.0,
        batch_size=hp.Choice("batch_size", [32, 64, 128], default=64),
        label_smoothing=hp.Float("label_smoothing", 0.0, 0.2, default=0.1),
        mixup=_mixup(hp),
        **_imbalance(hp),
        augmentation=Augmentation(
            rotation=hp.Float("rotation", 0.0, 30.0, default=12.0),
            shift=hp.Float("shift", 0.0, 0.2, default=0.1),
            zoom=hp.Float("zoom", 0.0, 0.2, default=0.1),
            flip=hp.Boolean("flip", default=True),
            brightness=hp.Float("brightness", 0.0, 0.3, default=0.15),
            contrast=hp.Float("contrast", 0.0, 0.3, default=0.15),
            erasing=hp.Float("erasing", 0.0, 0.5, default=0.2),
        ),
        epochs=search.epochs,
        seed=seed,
    )


def declare(search: SearchConfig, point: dict[str, Any] | None = None) -> Any:
    """Declare the whole space without a trial.

    Args:
        search: As for `suggest`.
        point: Values of some parameters; the others take their defaults.

    Returns:
        `keras_tuner.HyperParameters` with the whole space and the active values.
    """
    hp = keras_tuner.HyperParameters()
    hp.values = dict(point or {})
    if search.hypermodel == NONE:
        suggest(hp, search=search, seed=0)
    else:
        custom.find(search).build(hp)
    names = {parameter.name for parameter in hp.space if hp.is_active(parameter)}
    hp.values = {name: value for name, value in hp.values.items() if name in names}
    return hp


def known_good(search: SearchConfig) -> list[dict[str, Any]]:
    """Return the points of `KNOWN_GOOD` that this search may sample, completed with defaults.

    Those that suit its number of epochs come first.
    """
    if search.hypermodel != NONE:
        return []
    few = search.epochs < _FEW_EPOCHS
    return [
        declare(search, point | settled(search)).values
        for point in sorted(KNOWN_GOOD, key=lambda each: few and not _MILD.items() <= each.items())
        if point["backbone"] in search.backbones
    ]


def settled(search: SearchConfig) -> dict[str, Any]:
    """Return the parameters for which this search leaves no choice, with their only values."""
    hp = declare(search)
    names = {parameter.name for parameter in hp.space if len(set(parameter.values)) == 1}
    return {name: value for name, value in hp.values.items() if name in names}


def _unfreeze_depth(hp: keras_tuner.HyperParameters, backbone: str, pretrained: bool) -> Any:
    """Untrained stages have nothing worth keeping, so without weights all of them train."""
    with hp.conditional_scope("backbone", [backbone]):
        name = f"{backbone}_unfreeze_depth"
        return hp.Int(name, 0 if pretrained else STAGES, STAGES, default=STAGES)


def _batch_norm(hp: keras_tuner.HyperParameters, backbone: str, pretrained: bool) -> Any:
    """Only pretrained statistics can be kept."""
    if not BACKBONES[backbone].has_batch_norm or not pretrained:
        return "stage"
    with hp.conditional_scope("backbone", [backbone]):
        return hp.Choice(f"{backbone}_batch_norm", ["stage", "frozen", "trainable"])


def _pooling(hp: keras_tuner.HyperParameters, backbone: str, sizes: Iterable[Any]) -> Any:
    """On a map of one pixel all poolings are the same."""
    known = BACKBONES[backbone]
    if len(known.poolings) == 1 or max(sizes) < known.one_pixel_below:
        return known.poolings[0]
    with hp.conditional_scope("backbone", [backbone]):
        return hp.Choice(f"{backbone}_pooling", list(known.poolings))


def _head_units(hp: keras_tuner.HyperParameters, backbone: str) -> Any:
    with hp.conditional_scope("backbone", [backbone]):
        default = BACKBONES[backbone].head_units
        return hp.Choice(f"{backbone}_head_units", [0, 256, 512, 1024], default=default)


def _backbone_rate(hp: keras_tuner.HyperParameters, pretrained: bool) -> Any:
    """A slower backbone protects what it has learnt; without weights, nothing needs that."""
    low = 0.05 if pretrained else 1.0
    return hp.Float("backbone_rate", low, 1.0, sampling="log", default=1.0)


def _ema_decay(hp: keras_tuner.HyperParameters, backbones: list[str]) -> Any:
    """Not with BatchNormalization, whose statistics would not fit averaged weights."""
    if not backbones:
        return 0.0
    with hp.conditional_scope("backbone", backbones):
        return hp.Choice("ema_decay", [0.0, 0.99, 0.999])


def _head_warmup(hp: keras_tuner.HyperParameters, pretrained: bool, epochs: int) -> Any:
    """At most a quarter of the epochs; without weights there is nothing to protect."""
    most = min(5, epochs // 4) if pretrained else 0
    return hp.Int("head_warmup", 0, most, default=0)


def _mixup(hp: keras_tuner.HyperParameters) -> Any:
    is_mixed = hp.Boolean("is_mixed", default=False)
    with hp.conditional_scope("is_mixed", [True]):
        alpha = hp.Float("mixup", 0.1, 1.0, default=0.2)
    return alpha if is_mixed else 0.0


def _imbalance(hp: keras_tuner.HyperParameters) -> dict[str, Any]:
    """One remedy at a time, each with its own strength."""
    remedy = hp.Choice("imbalance", ["class_weights", "balanced_sampling", "focal_loss", "none"])
    with hp.conditional_scope("imbalance", ["class_weights"]):
        power = hp.Float("class_weight_power", 0.1, 1.0, default=0.5)
    with hp.conditional_scope("imbalance", ["focal_loss"]):
        gamma = hp.Float("focal_gamma", 0.5, 2.0, default=1.0)
    return {
        "class_weight_power": power if remedy == "class_weights" else 0.0,
        "balanced_sampling": remedy == "balanced_sampling",
        "focal_gamma": gamma if remedy == "focal_loss" else 0.0,
    }


def _adamw(hp: keras_tuner.HyperParameters) -> tuple[Any, Any]:
    with hp.conditional_scope("optimizer", ["adamw"]):
        return (
            hp.Float("adamw_learning_rate", 1e-5, 1e-2, sampling="log", default=3e-4),
            hp.Float("adamw_weight_decay", 1e-5, 5e-2, sampling="log", default=1e-3),
        )


def _sgd(hp: keras_tuner.HyperParameters) -> tuple[Any, Any]:
    with hp.conditional_scope("optimizer", ["sgd"]):
        return (
            hp.Float("sgd_learning_rate", 1e-4, 5e-2, sampling="log", default=1e-2),
            hp.Float("sgd_weight_decay", 1e-5, 1e-3, sampling="log", default=1e-4),
        )
