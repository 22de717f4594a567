"""KerasTuner's Hyperband and BayesianOptimization on our HyperModel."""

from __future__ import annotations

import functools
from unittest import mock

import keras_tuner

from benchmarks.searches import Task
from fer_search.model import training
from fer_search.study.hypermodel import EmotionHyperModel

OBJECTIVE = keras_tuner.Objective("val_macro_f1", "max")


def tune(task: Task, name: str) -> None:
    """Search until the time is up."""
    model = EmotionHyperModel(task.search, seed=task.seed)
    common = {"objective": OBJECTIVE, "seed": task.seed, "directory": task.folder,
              "project_name": name}  # fmt: skip
    if name == "hyperband":
        tuner = keras_tuner.Hyperband(
            model, max_epochs=task.search.epochs, hyperband_iterations=1000, **common
        )
    else:
        tuner = keras_tuner.BayesianOptimization(model, max_trials=100_000, **common)
    splits = task.splits
    patched = {
        "train": functools.partial(_recorded, task, training.train),
        "evaluate": functools.partial(_of_a_few, training.evaluate),
    }
    with mock.patch.multiple(training, **patched):
        tuner.search(
            splits.train.images, splits.train.labels, verbose=0,
            validation_data=(splits.validation.images, splits.validation.labels),
        )  # fmt: skip


def _recorded(task, train, config, splits, *, on_epoch, **more):
    def both(epoch):
        task.record(epoch)
        on_epoch(epoch)

    return train(config, splits, on_epoch=both, **more)


def _of_a_few(evaluate, model, images, labels):
    """Score the stored model on a few images; no tuner needs it, and Hyperband repeats it."""
    return evaluate(model, images[:32], labels[:32])
