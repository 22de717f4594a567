"""Searches on our own study: ours, and with less; and i-Epoch."""

from __future__ import annotations

import contextlib
import itertools
from functools import partial
from unittest import mock

from benchmarks.searches import Task
from fer_search.errors import TrialFailed
from fer_search.model.training import train
from fer_search.results import EpochMetrics
from fer_search.study import studies
from fer_search.study.space import suggest
from fer_search.study.trial import Trial, TrialPruned
from fer_search.trial_config import TrialConfig

SETTINGS = {
    "ours": {},
    "unprimed": {},
    "tpe": {"pruner": "none"},
    "random": {"pruner": "none", "sampler": "random"},
    "i_epoch": {"pruner": "none", "sampler": "random"},
}


def tune(task: Task, name: str) -> None:
    """Search until the time is up."""
    search = task.search.model_copy(update=SETTINGS[name])
    storage = studies.open_storage(f"sqlite:///{task.folder}/optuna.db")
    points = mock.patch.object(studies, "known_good", return_value=[])
    with points if name != "ours" else mock.MagicMock():
        study = studies.create_study(storage, search, {"run_id": ""})
    if name == "i_epoch":
        _i_epoch(task, study)
    for _ in itertools.count():
        _train(task, study.take())


def _train(task: Task, trial: Trial) -> None:
    config = trial.ask(partial(suggest, search=task.search, seed=trial.seed))

    def on_epoch(epoch: EpochMetrics) -> None:
        task.record(epoch)
        trial.report(epoch, is_last=epoch.epoch == config.epochs)

    try:
        trial.complete(train(config, task.splits, on_epoch=on_epoch)[1])
    except TrialPruned:
        trial.prune()
    except TrialFailed as failure:
        trial.fail(failure)


def _i_epoch(task: Task, study: studies.Study) -> None:
    """One epoch each for half of the time, of the whole schedule; then the best ones to the end."""
    scores: list[tuple[float, TrialConfig]] = []
    while task.share < 0.5:
        trial = study.take()
        config = trial.ask(partial(suggest, search=task.search, seed=trial.seed))
        heard: list[EpochMetrics] = []

        def stop(epoch: EpochMetrics, heard: list[EpochMetrics] = heard) -> None:
            heard.append(epoch)
            task.record(epoch)
            raise TrialPruned

        try:
            train(config, task.splits, on_epoch=stop)
        except TrialPruned:
            scores.append((heard[0].val_macro_f1, config))
            trial.prune()
        except TrialFailed as failure:
            trial.fail(failure)
    for _, config in sorted(scores, key=lambda scored: -scored[0]):
        with contextlib.suppress(TrialFailed):
            train(config, task.splits, on_epoch=task.record)
