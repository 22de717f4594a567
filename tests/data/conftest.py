"""Shared by the tests of the data: their cache, and folders of small images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from fer_search.config import EMOTIONS


@pytest.fixture
def cache(own_home: Path) -> Path:
    """The folder of this test's packed images; empty at first."""
    return platformdirs.user_cache_path("fer_search") / "packed"


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write an image of seeded noise."""

    def write(path: Path, seed: int = 0, size: int = 48) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_folder(write_image: Callable[..., Path]) -> Callable[..., Path]:
    """Write `each` different images for every emotion into the parts of a folder."""

    def write(root: Path, parts: tuple[str, ...] = ("",), each: int = 3) -> Path:
        places = [(part, emotion) for part in parts for emotion in EMOTIONS]
        for i, (part, emotion) in enumerate(places):
            for j in range(each):
                write_image(root / part / emotion / f"{j}.png", seed=i * each + j)
        return root

    return write
