"""Our worker, with a no-op in place of training; every trial is pruned after its epochs."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np

from benchmarks.contenders import EPOCHS, arguments, space
from fer_search import cli
from fer_search.data.preparation import prepare
from fer_search.model.checkpoint import Checkpoint
from fer_search.results import EpochMetrics
from fer_search.study.space import suggest
from fer_search.study.studies import create_study, open_storage
from fer_search.study.trial import TrialPruned
from fer_search.tracking import store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows import worker
from fer_search.workflows.plan import Plan


def main() -> None:
    """Run trials until there are enough or the time is up."""
    cli.set_environment()
    uri, folder, trials, clock = arguments()
    store.mlflow.set_tracking_uri(uri)
    search = space(trials=trials, study="overhead", storage=f"sqlite:///{folder}/optuna.db")
    splits = prepare(search)
    client = store.connect()
    study_run = StudyRun(client, store.begin_run(client, "overhead", {}))
    facts = {"run_id": study_run.run_id, "train_digest": "", "test_digest": ""}
    study = create_study(open_storage(search.storage), search, facts)
    with mock.patch.object(worker, "plan", _without_training):
        while not clock.is_up and (trial := study.take()):
            clock.begin()
            worker.run_trial(trial, splits, study, study_run)
    clock.print()


def _without_training(trial, search, file):
    config = trial.ask(lambda hp: suggest(hp, search=search, seed=trial.seed))
    rng = np.random.default_rng(trial.seed)

    def train(splits, *, on_epoch, on_batch):
        for epoch in range(1, EPOCHS + 1):
            with contextlib.suppress(TrialPruned):  # so that all have five epochs
                on_epoch(_epoch(epoch, float(rng.random())))
        raise TrialPruned

    return Plan(
        params=config.to_params(),
        train=train,
        images=lambda splits: {},
        checkpoint=Checkpoint(file, config.to_params()),
    )


def _epoch(number, score):
    return EpochMetrics(
        epoch=number, loss=1.0, accuracy=score, val_loss=1.0, val_accuracy=score,
        val_macro_f1=score, learning_rate=1e-3, images_per_second=100.0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
