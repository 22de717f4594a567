"""Drawn faces, already split, for tests that need no real ones."""

import numpy as np

from fer_search.data.sources import Faces
from fer_search.data.splits import Splits, split
from fer_search.data.synthetic import draw


def drawn_splits(n: int = 420) -> Splits:
    """Draw `n` faces and split them."""
    images, labels = draw(n, seed=1)
    origins = np.array([f"faces/{i:06d}.png" for i in range(n)])
    faces = Faces(
        name="faces", source_url="https://example.org/faces", images=images, labels=labels,
        origins=origins, splits=np.full(n, ""),
    )  # fmt: skip
    return split(faces, limit=0, seed=1)
