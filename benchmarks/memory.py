"""How much memory a worker holds after each of its trials.

    python -m benchmarks.memory [--quick] [--json FILE]

One process trains, stores and logs trials one after another as a worker does, with figures and
models. The first five fill caches; what counts is the growth from then to the last trial.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

import psutil

from benchmarks import measure
from fer_search import runtime, spool
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.study.studies import create_study, open_storage
from fer_search.tracking import store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.delivery_thread import DeliveryThread
from fer_search.workflows.worker import run_trial

WARM = 5
"""Number of trials after which caches are full."""


def main() -> None:
    """Print megabytes after some of the trials."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--trials", type=int, default=50),
        lambda parser: parser.add_argument("--backbones", default="vgg16"),
    )
    trials = min(options.trials, 20) if options.quick else options.trials
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["XDG_STATE_HOME"] = folder  # where finished trials wait to be stored
        held = _held(trials, options.backbones)
    growth = held[-1] - held[min(WARM, trials) - 1]
    shown = sorted({1, *range(WARM, trials, 10), trials})
    rows = [[f"trial {number}", round(held[number - 1])] for number in shown]
    numbers = {"memory.growth_mb": growth, "memory.trials": trials}
    title = f"Memory of a worker, {options.backbones}: {growth:.0f} MB more than after trial {WARM}"
    measure.close(title, measure.table(["after", "MB"], rows), numbers, options.json)


def _held(trials: int, backbones: str) -> list[float]:
    """Return the megabytes held after each trial."""
    search = SearchConfig(
        study="memory", trials=trials, data="synthetic", limit=70, epochs=1, image_sizes="48",
        weights="none", backbones=backbones, sampler="random", pruner="none", register="none",
        storage="sqlite:///optuna.db",
    )  # fmt: skip
    runtime.configure()
    splits = prepare(search)
    store.mlflow.set_tracking_uri("sqlite:///mlflow.db")
    client = store.connect()
    study_run = StudyRun(client, store.begin_run(client, "memory", {}))
    facts = {"run_id": study_run.run_id, "train_digest": "", "test_digest": ""}
    study, held = create_study(open_storage(search.storage), search, facts), []
    with DeliveryThread(study, study_run, spool.folder_of(study_run.run_id)) as delivery:
        while trial := study.take():
            if finished := run_trial(trial, splits, study, study_run):
                delivery.send(finished)
            held.append(psutil.Process().memory_info().rss / 1e6)
    return held


if __name__ == "__main__":
    main()
