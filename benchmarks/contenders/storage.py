"""Optuna on MLflow's MlflowStorage: studies and trials are runs, in a single store."""

from __future__ import annotations

import time
import warnings

import mlflow
import numpy as np
import optuna
from mlflow.entities import Metric
from mlflow.optuna.storage import MlflowStorage

from benchmarks.contenders import EPOCHS, arguments, metrics, space
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.space import suggest


def main() -> None:
    """Optimize until there are enough trials or the time is up."""
    uri, _, trials, clock = arguments()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(uri)
    storage, search, client = MlflowStorage(experiment_id="0"), space(), mlflow.MlflowClient()

    def objective(trial):
        clock.begin()
        if clock.is_up:
            trial.study.stop()
        suggest(OptunaHyperParameters(trial), search=search, seed=0)
        rng = np.random.default_rng(trial.number)
        for epoch in range(1, EPOCHS + 1):
            score = float(rng.random())
            now, of_epoch = int(time.time() * 1000), metrics(epoch, score)
            client.log_batch(
                trial._trial_id, [Metric(name, each, now, epoch) for name, each in of_epoch.items()]
            )
            trial.report(score, epoch)
            trial.should_prune()
        return score

    study = optuna.create_study(
        storage=storage, direction="maximize", study_name="overhead",
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=0),
        pruner=optuna.pruners.HyperbandPruner(2, 20),
    )  # fmt: skip
    study.optimize(objective, n_trials=trials)
    clock.print()


if __name__ == "__main__":
    main()
