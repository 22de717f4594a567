"""What an epoch computes, and on what: a whole network, or the part after frozen stages."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import keras
import numpy as np


class Feed(Protocol):
    """Batches of an epoch."""

    batch_size: int

    def __len__(self) -> int: ...

    def start_epoch(self, epoch: int) -> None:
        """Get ready for this epoch."""

    def batch(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs (B, …), targets (B, 7) and sample weights (B,)."""


@dataclasses.dataclass(frozen=True)
class Course:
    """What an epoch computes, and on what."""

    model: keras.Model
    """The network, or the part of it that follows on frozen stages; shares its weights."""
    batches: Feed
    validation: np.ndarray
    """Inputs of `model`, for the validation pictures in order."""
