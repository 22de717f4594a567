"""Shared by the tests of training: images that are easy to learn."""

from __future__ import annotations

import types

import numpy as np
import pytest


def spots(n: int, *, seed: int) -> types.SimpleNamespace:
    """Noise with a bright spot whose position gives the label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 7
    images = rng.integers(0, 120, (n, 48, 48)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[row * 16 : row * 16 + 14, column * 16 : column * 16 + 14] += 120
    return types.SimpleNamespace(images=images, mapped=images, labels=labels)


@pytest.fixture(scope="session")
def splits() -> types.SimpleNamespace:
    return types.SimpleNamespace(train=spots(140, seed=0), validation=spots(45, seed=1))
