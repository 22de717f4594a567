"""What an epoch computes, and on what: a whole network, or the part after frozen stages."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from fer_search.model.feed import Feed, as_dataset


@dataclasses.dataclass(frozen=True)
class Course:
    """What an epoch computes, and on what."""

    model: keras.Model
    """The network, or the part of it that follows on frozen stages; shares its weights."""
    batches: Feed
    validation: np.ndarray
    """Inputs of `model`, for the validation pictures in order."""

    @functools.cached_property
    def dataset(self) -> Any:
        """The batches as `Model.fit` takes them, once the first epoch has started."""
        return as_dataset(self.batches)
