"""Ray Tune with OptunaSearch and its MLflowLoggerCallback, one trial at a time."""

from __future__ import annotations

import numpy as np
import optuna
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from benchmarks.contenders import EPOCHS, ROOT, Clock, arguments, metrics, space
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.space import suggest

beginnings: list[Clock] = []


def define(trial):
    """Begin a trial by suggesting all its parameters; Ray pickles this function."""
    beginnings[0].begin()
    suggest(OptunaHyperParameters(trial), search=space(), seed=0)


def train(config):
    """Report epochs without training."""
    rng = np.random.default_rng()
    for epoch in range(1, EPOCHS + 1):
        tune.report(metrics(epoch, float(rng.random())))


def main() -> None:
    """Tune until there are enough trials or the time is up."""
    uri, folder, trials, clock = arguments()
    beginnings.append(clock)
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}}, log_to_driver=False)
    proposals = OptunaSearch(
        define, metric="val_macro_f1", mode="max",
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=0),
    )  # fmt: skip
    tuner = tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            search_alg=proposals, num_samples=trials, max_concurrent_trials=1,
            time_budget_s=max(1, clock.left),
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder), name="overhead", verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="overhead")],
        ),
    )  # fmt: skip
    tuner.fit()
    clock.print()


if __name__ == "__main__":
    main()
