"""The limit: only the compiled step of our network and optimizer, on one batch in memory."""

from __future__ import annotations

import time

import keras
import numpy as np

from benchmarks.loops import Task, answer, wait
from fer_search import runtime
from fer_search.model import classifier, optimizers
from fer_search.trial_config import TrialConfig


def main() -> None:
    """Train on the same batch again and again."""
    task = Task.read()
    runtime.configure()
    config = TrialConfig(
        backbone=task.backbone, unfreeze_depth=task.depth, image_size=task.image_size
    )
    model = classifier.build(config)
    model.compile(
        optimizers.create(config, model, steps=100_000), "categorical_crossentropy",
        jit_compile=runtime.jit_compile(),
    )  # fmt: skip
    rng, n = np.random.default_rng(0), task.batch_size
    faces = keras.ops.convert_to_tensor(rng.integers(0, 256, (n, 48, 48, 1), np.uint8))
    targets = keras.ops.one_hot(rng.integers(0, 7, n), 7)
    wait()
    model.train_on_batch(faces, targets)
    steps = task.limit // n
    while True:
        began = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(faces, targets)
        answer(steps * n / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
