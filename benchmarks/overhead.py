"""What a trial costs besides training: suggest, open a run, log five epochs, end it.

    python -m benchmarks.overhead [--quick] [--json FILE]

Nothing is trained, and no figure or model is stored. The others are the alternatives, each used as
its documentation shows, on the same space and with the same metrics, one trial at a time:

    optuna      Optuna, TPE, and optuna-integration's MLflowCallback with track_in_mlflow
    storage     Optuna, TPE, on MLflow's own MlflowStorage, which holds both study and runs
    keras_tuner KerasTuner's BayesianOptimization with an MLflow run for each trial
    ray_tune    Ray Tune with OptunaSearch and its MLflowLoggerCallback

Needs requirements-benchmarks.txt. Each contender runs in its own process and folder, against
SQLite and against an MLflow server on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks import measure

CONTENDERS = ("ours", "optuna", "storage", "keras_tuner", "ray_tune")
STORES = ("sqlite", "server")


def main() -> None:
    """Print the seconds per trial around the tenth trial and over the last ten."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--trials", type=int, default=300),
        lambda parser: parser.add_argument("--seconds", type=float, help="per contender"),
        lambda parser: parser.add_argument("--only", default=",".join(CONTENDERS)),
    )
    seconds = options.seconds or (60 if options.quick else 600)
    rows, numbers = [], {}
    for store in STORES:
        for contender in options.only.split(","):
            with tempfile.TemporaryDirectory() as folder, _store(store, Path(folder)) as uri:
                times = _times(contender, uri, folder, options.trials, seconds)
            at_10, at_end = _median(times[5:15]), _median(times[-10:])  # trials 6 to 15; last ten
            growth = at_end / at_10
            rows.append([contender, store, len(times), at_10, at_end, growth])
            prefix = "overhead." if contender == "ours" else f"overhead.{contender}."
            of_store = {"seconds_at_10": at_10}
            if len(times) == options.trials:
                of_store[f"growth_{options.trials}"] = growth
            for name, value in of_store.items():  # the worse of the two stores
                numbers[prefix + name] = max(value, numbers.get(prefix + name, 0.0))
            print(rows[-1], flush=True)
    head = ["", "store", "trials", "s at trial 10", "s at the last", "growth"]
    measure.close("Overhead of a trial", measure.table(head, rows), numbers, options.json)


def _times(contender: str, uri: str, folder: str, trials: int, seconds: float) -> list[float]:
    command = [sys.executable, "-m", f"benchmarks.contenders.{contender}"]
    command += [uri, folder, str(trials), str(seconds)]
    printed = measure.alone(command, RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS="0")
    return [float(each) for each in json.loads(printed.strip().splitlines()[-1])]


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


@contextlib.contextmanager
def _store(kind: str, folder: Path) -> Iterator[str]:
    """Provide a tracking store in a folder: a database, or a server in front of one."""
    uri = f"sqlite:///{folder}/mlflow.db"
    if kind == "sqlite":
        yield uri
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/health")
            time.sleep(
                20
            )  # its processes are still starting, which would slow down the first trials
            yield address
        finally:
            os.killpg(server.pid, 15)
            server.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
