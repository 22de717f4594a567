"""Our `train` as trials run it, with augmentation, weights and metrics; whole epochs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.loops import Task, answer, wait
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.model import features
from fer_search.model.checkpoint import Checkpoint
from fer_search.model.training import train
from fer_search.trial_config import Augmentation, TrialConfig

AUGMENTATION = Augmentation(
    rotation=12.0, shift=0.1, zoom=0.1, flip=True, brightness=0.15, contrast=0.15, erasing=0.2
)
"""The defaults of the search space."""


def main() -> None:
    """Train epoch after epoch."""
    task = Task.read()
    runtime.configure()
    splits = prepare(SearchConfig(data=task.data, limit=task.limit))
    config = TrialConfig(
        backbone=task.backbone,
        image_size=task.image_size,
        unfreeze_depth=task.depth,
        batch_size=task.batch_size,
        augmentation=AUGMENTATION,
        epochs=10_000,
        patience=10_000,
    )
    features.DEEPEST = -1  # `benchmarks.features` measures what frozen stages save
    wait()
    with tempfile.TemporaryDirectory() as folder:
        train(
            config,
            splits,
            on_epoch=lambda epoch: answer(epoch.images_per_second),
            on_batch=lambda *_: None,
            checkpoint=Checkpoint(Path(folder, "checkpoint"), {}),
        )


if __name__ == "__main__":
    main()
