"""KerasTuner's BayesianOptimization; each trial opens an MLflow run and logs its epochs."""

from __future__ import annotations

import keras_tuner
import mlflow
import numpy as np

from benchmarks.contenders import EPOCHS, arguments, metrics, space
from fer_search.study.space import suggest


def main() -> None:
    """Search until there are enough trials or the time is up."""
    uri, folder, trials, clock = arguments()
    mlflow.set_tracking_uri(uri)
    search = space()

    class Tuner(keras_tuner.BayesianOptimization):
        def run_trial(self, trial, *_, **__):
            if clock.is_up:
                self.oracle.max_trials = 1  # 0 would be no limit
            rng = np.random.default_rng(int(trial.trial_id))
            with mlflow.start_run(run_name=f"trial-{trial.trial_id}"):
                mlflow.log_params(trial.hyperparameters.values)
                for epoch in range(1, EPOCHS + 1):
                    score = float(rng.random())
                    mlflow.log_metrics(metrics(epoch, score), step=epoch)
            return {"val_macro_f1": score}

        def on_trial_begin(self, trial):
            clock.begin()
            super().on_trial_begin(trial)

    def build(hp):
        suggest(hp, search=search, seed=0)

    tuner = Tuner(
        build, objective=keras_tuner.Objective("val_macro_f1", "max"), max_trials=trials,
        directory=folder, project_name="overhead", seed=0,
    )  # fmt: skip
    tuner.search(verbose=0)
    clock.print()


if __name__ == "__main__":
    main()
