"""Ray Tune: Optuna's TPE proposes, ASHA stops, one trial at a time."""

from __future__ import annotations

import functools
from pathlib import Path

import optuna
import ray
from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.searches import Task
from fer_search import runtime
from fer_search.model.training import train
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.space import declare, suggest


def tune(task: Task, name: str) -> None:
    """Search until the time is up."""

    def run(point):
        runtime.configure()
        task = ray.get(shared)  # the images are too large to pickle with the function

        def on_epoch(epoch):
            task.record(epoch)
            ray_tune.report({"val_macro_f1": epoch.val_macro_f1})

        hp = declare(task.search, point)
        config = suggest(hp, search=task.search, seed=task.seed)
        train(config, task.splits, on_epoch=on_epoch)

    root = Path(__file__).parents[2]
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(root)}}, log_to_driver=False)
    shared = ray.put(task)
    ray_tune.Tuner(
        ray_tune.with_resources(run, {"cpu": 2}),
        tune_config=ray_tune.TuneConfig(
            search_alg=OptunaSearch(
                functools.partial(_define, task.search), metric="val_macro_f1", mode="max",
                sampler=optuna.samplers.TPESampler(
                    multivariate=True, group=True, seed=task.seed
                ),
            ),
            scheduler=ASHAScheduler(
                metric="val_macro_f1", mode="max", max_t=task.search.epochs, grace_period=2,
                reduction_factor=3,
            ),
            num_samples=100_000, max_concurrent_trials=1, time_budget_s=task.seconds,
        ),
        run_config=ray_tune.RunConfig(storage_path=str(task.folder), name=name, verbose=0),
    ).fit()  # fmt: skip


def _define(search, trial):
    suggest(OptunaHyperParameters(trial), search=search, seed=0)
