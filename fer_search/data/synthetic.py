"""Faces that need no download: people, moods, light and camera drawn at random.

The source `synthetic` serves the demo, the tests and everyone without FER2013. The seven
expressions differ in the features that tell them apart in life (brows, lids, nose, mouth), identity
and images vary more than the expressions do, and moods may be faint, so the faces can be learned,
but not from single pixels. `portraits.py` paints what is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np

from fer_search.config import EMOTIONS, FACE_SIZE
from fer_search.data import portraits

VERSION = 1
"""Raised with every change that draws other images, so that old packed ones are not used."""

_BATCH = 16
"""Faces that are painted at once; image i depends on the seed and i alone."""

_COUNTS = (3995, 436, 4097, 7215, 4965, 4830, 3171)
"""Images per emotion in FER2013's training set, whose imbalance is imitated."""

TRAITS: Mapping[str, tuple[float, float]] = {
    # who: shapes in units of the face, see portraits.py; light from 0 (black) to 1 (white)
    "head_width": (0.76, 0.92), "jaw": (1.75, 2.7), "skin": (0.36, 0.82), "hair": (0.04, 0.4),
    "hair_volume": (0.02, 0.2), "hair_length": (-0.1, 0.25), "hairline": (-0.92, -0.62),
    "parting": (-0.22, 0.22), "eye_x": (0.36, 0.45), "eye_size": (0.19, 0.25),
    "iris": (0.08, 0.4), "lashes": (0.022, 0.04), "bags": (0.0, 0.6),
    "brow_height": (-0.05, 0.02), "brow_thickness": (0.028, 0.06), "brow_strength": (0.6, 1.0),
    "nose_length": (0.85, 1.15), "nose_width": (0.13, 0.19), "mouth_size": (0.31, 0.4),
    "lips": (0.6, 1.3), "lip_light": (0.6, 0.85), "clothes": (0.1, 0.9), "frame_light": (0.02, 0.3),
    # how they hold their head: radians, fractions of half the image
    "tilt": (-0.32, 0.32), "turn": (-0.55, 0.55), "size": (0.84, 1.16),
    "shift_x": (-0.17, 0.17), "shift_y": (-0.13, 0.17), "gaze": (-0.05, 0.05),
    "smirk": (-0.05, 0.05),
    # where they are
    "backdrop": (0.1, 0.9), "backdrop_slope": (-0.2, 0.2), "blot": (0.05, 0.95),
    "blot_x": (-1.0, 1.0), "blot_y": (-1.0, 1.0), "light_x": (-0.3, 0.3), "light_y": (-0.3, 0.12),
}  # fmt: skip
"""Ranges of what varies from face to face."""

ACTIONS = (
    "brow_inner", "brow_outer", "brow_arch", "brow_knit", "eye_open", "lower_lid", "eye_slant",
    "nose_wrinkle", "cheek", "fold", "forehead", "mouth_corners", "mouth_width", "mouth_open",
    "mouth_round", "lip_raise", "lip_press", "teeth",
)  # fmt: skip
"""What a face can do: 0 is at rest, 1 is as far as it goes; brows, lids, corners go both ways."""

MOODS: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "angry": (
        dict(brow_inner=-1, brow_outer=0.1, brow_knit=1, eye_open=-0.25, lower_lid=0.5,
             nose_wrinkle=0.25, fold=0.3, mouth_corners=-0.4, mouth_width=-0.1, lip_press=1),
        dict(brow_inner=-1, brow_outer=0.1, brow_knit=1, eye_open=0.1, lower_lid=0.4,
             nose_wrinkle=0.4, fold=0.7, mouth_corners=-0.35, mouth_open=0.45, teeth=1,
             lip_raise=0.3),
    ),
    "disgust": (
        dict(brow_inner=-0.7, brow_outer=-0.5, brow_knit=0.4, eye_open=-0.45, lower_lid=0.8,
             nose_wrinkle=1.1, cheek=0.6, fold=1, mouth_corners=-0.7, lip_raise=1, teeth=0.3),
    ),
    "fear": (
        dict(brow_inner=0.9, brow_outer=0.35, brow_knit=0.5, brow_arch=-0.5, eye_open=0.8,
             forehead=0.7, mouth_corners=-0.4, mouth_width=0.4, mouth_open=0.65, teeth=0.4),
        dict(brow_inner=0.9, brow_outer=0.3, brow_knit=0.6, brow_arch=-0.5, eye_open=0.85,
             forehead=0.8, mouth_corners=-0.5, mouth_width=0.5, mouth_open=0.3, teeth=1),
    ),
    "happy": (
        dict(brow_outer=0.15, brow_arch=0.2, eye_open=-0.3, lower_lid=0.8, cheek=1, fold=0.9,
             mouth_corners=0.95, mouth_width=0.5, mouth_open=0.4, teeth=1),
        dict(brow_outer=0.1, brow_arch=0.2, eye_open=-0.2, lower_lid=0.6, cheek=0.8, fold=0.7,
             mouth_corners=1.1, mouth_width=0.45),
    ),
    "neutral": ({},),
    "sad": (
        dict(brow_inner=0.85, brow_outer=-0.5, brow_knit=0.5, brow_arch=-0.6, eye_open=-0.5,
             eye_slant=0.3, fold=0.3, forehead=0.25, mouth_corners=-1.1, mouth_width=-0.1,
             lip_press=0.2),
    ),
    "surprise": (
        dict(brow_inner=1, brow_outer=1, brow_arch=1, eye_open=1, forehead=0.8,
             mouth_width=-0.35, mouth_open=1, mouth_round=1),
        dict(brow_inner=0.9, brow_outer=0.9, brow_arch=0.9, eye_open=0.9, forehead=0.8,
             mouth_width=-0.5, mouth_open=0.65, mouth_round=1),
    ),
}  # fmt: skip
"""How an emotion shows, after Ekman and Friesen's Facial Action Coding System; its variants are
equally likely. Actions that are not named are at rest."""


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `n` faces; the first ones are the same for every `n`.

    Args:
        n: Number of faces, at least 0.
        seed: Seed of the draw, at least 0; equal seeds draw equal faces.

    Returns:
        Images (n, 48, 48) uint8, and labels (n,) int64 as indices into `EMOTIONS`, as imbalanced
        as those of FER2013 in every stretch of a few hundred faces.
    """
    shares = np.cumsum(_COUNTS) / sum(_COUNTS)
    images = np.empty((n, FACE_SIZE, FACE_SIZE), np.uint8)
    labels = np.empty(n, np.int64)
    for start in range(0, n, _BATCH):
        rng = np.random.default_rng((seed, start))
        # multiples of the golden ratio spread evenly, so that a rare emotion is never missing
        spread = (seed * 0.7548776662 + np.arange(start, start + _BATCH) * 0.6180339887) % 1
        moods = np.searchsorted(shares, spread, side="right")
        end = min(start + _BATCH, n)
        labels[start:end] = moods[: end - start]
        images[start:end] = _photograph(portraits.paint(_people(moods, rng)), rng)[: end - start]
    return images, labels


def _people(moods: np.ndarray, rng: np.random.Generator) -> SimpleNamespace:
    """Decide who shows these moods, how strongly and where; every value has shape (N, 1, 1)."""
    n = len(moods)
    people = {name: rng.uniform(low, high, n) for name, (low, high) in TRAITS.items()}
    chance = rng.random((6, n))
    people["has_hair"] = np.where(chance[0] < 0.93, 1, 0.08)
    people["hair_length"] = np.where(chance[1] < 0.35, 1.6, people["hair_length"])
    people["hair"] = np.where(chance[2] < 0.15, 0.75 - 0.3 * people["hair"], people["hair"])
    people["glasses"] = (chance[3] < 0.12) * 1.0
    people["beard"] = np.where(chance[4] < 0.12, 0.7, 0) * (people["hair_length"] < 1)
    people["moustache"] = np.where(chance[5] < 0.1, 0.9, 0) * (people["hair_length"] < 1)
    people |= dict(zip(ACTIONS, _actions(moods, rng), strict=True))
    return SimpleNamespace(
        **{name: value.astype(np.float32)[:, None, None] for name, value in people.items()}
    )


def _actions(moods: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw how far each action goes, shape (actions, N): a mood, faint or strong, and noise."""
    n = len(moods)
    strength = 1.15 * rng.beta(2.6, 1.6, n)
    actions = rng.normal(0, 0.13, (len(ACTIONS), n))
    for i, emotion in enumerate(EMOTIONS):
        variants = np.array([[v.get(action, 0) for action in ACTIONS] for v in MOODS[emotion]])
        those = np.flatnonzero(moods == i)
        variant = rng.integers(len(variants), size=n)[those]
        actions[:, those] += strength[those] * variants[variant].T
    return actions


def _photograph(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulate light, lens and sensor: exposure, blur and noise; the result is uint8."""
    n = len(light)
    contrast, brightness, blur, noise = (
        rng.uniform(low, high, (n, 1, 1)).astype(np.float32)
        for low, high in ((0.7, 1.15), (0.42, 0.58), (0, 0.9), (0.003, 0.03))
    )
    for axis in (1, 2):
        soft = light * 0.5
        soft += 0.25 * (np.roll(light, 1, axis) + np.roll(light, -1, axis))
        light = light + blur * (soft - light)
    light = brightness + contrast * (light - 0.5)
    light += noise * rng.standard_normal(light.shape, np.float32)
    return (np.clip(light, 0, 1) * 255).astype(np.uint8)
