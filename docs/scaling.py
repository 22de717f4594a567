"""Measure a storage under load: workers without training take and end trials at full speed.

    python -m docs.scaling sqlite:////tmp/load.db [--workers 1,10,100] [--sampler tpe]

Prints the table of docs/scaling.md: trials per second of all workers together, and how long one
worker waits for each of its calls to the storage. The workers are forked from one process that has
imported everything, so a hundred of them fit on a laptop.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from fer_search.config import SAMPLERS, SearchConfig
from fer_search.results import EpochMetrics, Evaluation, TrialResult
from fer_search.study.space import suggest
from fer_search.study.studies import create_study, existing_study, open_storage
from fer_search.study.trial import TrialPruned
from fer_search.tracking.outage import patiently

EPOCHS = 5
TIMED = ("take", "suggest", "report", "complete")
_FACTS = {"run_id": "none", "train_digest": "none", "test_digest": "none"}


def main() -> None:
    """Print a row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("storage", help="URL of a throwaway database")
    parser.add_argument("--workers", default="1,10,100")
    parser.add_argument("--trials", type=int, default=3, help="per worker")
    parser.add_argument("--sampler", default="tpe", choices=SAMPLERS)
    options = parser.parse_args()
    print("| workers | trials | trials/s |", " | ".join(f"{name}, s" for name in TIMED), "|")
    print("|" + "---:|" * (len(TIMED) + 3))
    for n in map(int, options.workers.split(",")):
        print(row(options.storage, n, n * options.trials, options.sampler), flush=True)


def row(storage: str, n: int, trials: int, sampler: str) -> str:
    """Run a study with `n` workers and format its row: medians, and the slowest in brackets."""
    name = f"load-{n}-{time.time_ns()}"
    search = SearchConfig(
        study=name, trials=trials, data="synthetic", backbones="vgg16", image_sizes="48",
        epochs=EPOCHS, sampler=sampler, pruner="median", storage=storage,
    )  # fmt: skip
    opened = open_storage(storage)
    create_study(opened, search, _FACTS)
    opened.engine.dispose()  # connections do not survive a fork
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    workers = [context.Process(target=work, args=(storage, name, answers)) for _ in range(n)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    times: dict[str, list[float]] = defaultdict(list)
    for _ in workers:
        for key, values in answers.get().items():
            times[key] += values
    seconds = time.perf_counter() - began
    ended = existing_study(storage, name).trials()
    if lost := trials - sum(trial.state in ("COMPLETE", "PRUNED") for trial in ended):
        sys.exit(f"{lost} trials were lost" if lost > 0 else f"{-lost} trials too many")
    cells = [f"{statistics.median(times[key]):.2f} ({max(times[key]):.1f})" for key in TIMED]
    return f"| {n} | {trials} | {trials / seconds:.1f} | {' | '.join(cells)} |"


def work(storage: str, name: str, answers: multiprocessing.SimpleQueue) -> None:
    """Run a worker that trains nothing, and send the seconds that each call took."""
    times: dict[str, list[float]] = defaultdict(list)

    def timed(key: str, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        result = patiently(lambda: call(*arguments))  # as workers do
        times[key].append(time.perf_counter() - began)
        return result

    try:
        study = existing_study(storage, name)
        while trial := timed("take", study.take):
            read = functools.partial(suggest, search=study.search, seed=trial.seed)
            timed("suggest", trial.ask, read)
            value = float(np.random.default_rng(trial.seed).random())
            epochs = [epoch(number, value) for number in range(1, EPOCHS + 1)]
            try:
                for each in epochs:
                    timed("report", trial.report, each)
                timed("complete", trial.complete, result_of(epochs))
            except TrialPruned:
                timed("complete", trial.prune)
    finally:
        answers.put(dict(times))


def epoch(number: int, value: float) -> EpochMetrics:
    """Make up the metrics of an epoch."""
    return EpochMetrics(
        epoch=number, loss=1.0, accuracy=value, val_loss=1.0, val_accuracy=value,
        val_macro_f1=value, learning_rate=1e-3, images_per_second=1.0,
    )  # fmt: skip


def result_of(epochs: list[EpochMetrics]) -> TrialResult:
    """Make up the result of a trial."""
    evaluation = Evaluation(np.arange(7), np.eye(7))
    return TrialResult(
        epochs=tuple(epochs), best_epoch=1, validation=evaluation, train_seconds=1.0,
        model_parameters=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
