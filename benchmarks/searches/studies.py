"""Searches on our own study: ours and its variants, and i-Epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from functools import partial
from unittest import mock

from benchmarks.searches import Task
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.errors import TrialFailed
from fer_search.model.training import train
from fer_search.results import EpochMetrics
from fer_search.study import studies
from fer_search.study.space import suggest
from fer_search.study.trial import Trial, TrialPruned
from fer_search.study.warm_start import earlier_study, warm_points
from fer_search.trial_config import TrialConfig

SETTINGS = {
    "ours": {},
    "ours_tpe": {"sampler": "tpe"},
    "staged": {},
    "unprimed": {"sampler": "tpe"},
    "tpe": {"pruner": "none", "sampler": "tpe"},
    "random": {"pruner": "none", "sampler": "random"},
    "i_epoch": {"pruner": "none", "sampler": "random"},
}


def tune(task: Task, name: str) -> None:
    """Search until the time is up."""
    search = task.search.model_copy(update=SETTINGS[name])
    storage = studies.open_storage(f"sqlite:///{task.folder}/optuna.db")
    facts = {"run_id": "", "test_digest": ""}
    if name == "staged":
        search = search.model_copy(update={"warm_start": "small"})
        _search_small(task, storage, search, facts)
    earlier = earlier_study(storage, search)
    first = warm_points(earlier, search, test_digest="") if earlier else ()
    unprimed = mock.patch.object(studies, "known_good", return_value=[])
    is_primed = name in ("ours", "ours_tpe", "staged")
    with contextlib.nullcontext() if is_primed else unprimed:
        study = studies.create_study(storage, search, facts, first)
    if name == "i_epoch":
        _i_epoch(task, study)
    for _ in itertools.count():
        _train(task, study.take())


def _search_small(
    task: Task, storage: studies.RDBStorage, search: SearchConfig, facts: dict[str, str]
) -> None:
    """Search for a third of the time, on a quarter of the images with half the epochs."""
    fewer = {"limit": search.limit // 4, "epochs": max(1, search.epochs // 2)}
    small = search.model_copy(update=fewer | {"study": "small", "warm_start": "none"})
    study = studies.create_study(storage, small, facts)
    folder = task.folder / "small"
    folder.mkdir()
    apart = dataclasses.replace(task, search=small, splits=prepare(small), folder=folder)
    while task.share < 1 / 3:
        _train(apart, study.take())


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
    """Train one epoch of the full schedule each for half of the time, then the best to the end."""
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
