"""Optuna with the callback of optuna-integration, as in its documentation."""

from __future__ import annotations

import warnings

import mlflow
import numpy as np
import optuna
from optuna_integration import MLflowCallback

from benchmarks.contenders import EPOCHS, arguments, metrics, space
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.space import suggest


def main() -> None:
    """Optimize until there are enough trials or the time is up."""
    uri, folder, trials, clock = arguments()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = space()
    to_mlflow = MLflowCallback(tracking_uri=uri, metric_name="val_macro_f1")

    @to_mlflow.track_in_mlflow()
    def objective(trial):
        suggest(OptunaHyperParameters(trial), search=search, seed=0)
        rng = np.random.default_rng(trial.number)
        for epoch in range(1, EPOCHS + 1):
            score = float(rng.random())
            mlflow.log_metrics(metrics(epoch, score), step=epoch)
            trial.report(score, epoch)
            trial.should_prune()
        return score

    def timed(trial):
        clock.begin()
        if clock.is_up:
            trial.study.stop()
        return objective(trial)

    study = optuna.create_study(
        storage=f"sqlite:///{folder}/optuna.db", direction="maximize", study_name="overhead",
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=0),
        pruner=optuna.pruners.HyperbandPruner(2, 20),
    )  # fmt: skip
    study.optimize(timed, n_trials=trials, callbacks=[to_mlflow])
    clock.print()


if __name__ == "__main__":
    main()
