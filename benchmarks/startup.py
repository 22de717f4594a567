"""Time from a command to the first trial, to the end of its first epoch, and to `--help`.

    python -m benchmarks.startup [--quick] [--json FILE]

The search is `mlflow run` as in the README, on synthetic faces and with the tiny backbone, so that
its first epoch is two steps. It is measured from outside, by the timestamps in the stores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient

from benchmarks import measure
from fer_search.study.studies import existing_study

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print median seconds over a few turns."""
    options = measure.options(__doc__)
    contenders = {"`--help`": _help, "a refusal": _refusal}
    turns = 3 if options.quick else 7
    quick = measure.in_turn(contenders, turns)
    searches = [_search() for _ in range(turns)]
    figures = {name: statistics.median(values) for name, values in quick.items()}
    figures |= {
        "`mlflow run`: first trial is taken": statistics.median(first for first, _ in searches),
        "`mlflow run`: its first epoch has ended": statistics.median(end for _, end in searches),
    }
    keys = ("help_s", "refusal_s", "first_trial_s", "first_epoch_s")
    numbers = {f"startup.{key}": v for key, v in zip(keys, figures.values(), strict=True)}
    rows = [[name, value] for name, value in figures.items()]
    measure.close(
        "Start-up", measure.table(["time since the command", "s"], rows), numbers, options.json
    )


def _help() -> float:
    return _seconds("search", "--help", status=0)


def _refusal() -> float:
    return _seconds("search", "--trials=none", status=2)


def _seconds(*arguments: str, status: int) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "fer_search", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == status, done.stderr.decode()
    return time.perf_counter() - began


def _search() -> tuple[float, float]:
    """Return the seconds until the first trial was taken, and until its first epoch ended."""
    settings = {
        "study": "startup", "trials": 1, "data": "synthetic", "limit": 140, "epochs": 1,
        "backbones": "tiny", "weights": "none", "image_sizes": 48, "register": "none",
    }  # fmt: skip
    parameters = [part for key, value in settings.items() for part in ("-P", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/mlflow.db"
        environment = {"MLFLOW_TRACKING_URI": store, "XDG_STATE_HOME": folder}
        began = time.time()
        subprocess.run(
            [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager=local", *parameters],
            cwd=folder, env=os.environ | environment, capture_output=True, check=True,
        )  # fmt: skip
        trial = existing_study(f"sqlite:///{folder}/optuna.db", "startup").trials()[0]
        history = MlflowClient(store).get_metric_history(str(trial.run_id), "epoch/val_macro_f1")
    assert trial.started is not None
    return trial.started - began, history[0].timestamp / 1000 - began


if __name__ == "__main__":
    main()
