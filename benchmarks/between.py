"""Time from the last epoch of a trial to the first step of the next one, part by part.

    python -m benchmarks.between [--quick] [--json FILE] [--weights FILE]

One process trains, stores and logs VGG16 trials one after another as a worker does, with figures,
models and versions. A thread delivers each trial while the next one trains. The first gap, in which
caches fill, does not count.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import tempfile
import time
from typing import Any
from unittest import mock

from benchmarks import measure
from fer_search import runtime, spool
from fer_search.config import SearchConfig, WorkerConfig
from fer_search.data.preparation import prepare
from fer_search.model import checkpoint, epochs, training
from fer_search.study.queue import Queue
from fer_search.study.studies import create_study, open_storage
from fer_search.study.trial import Trial
from fer_search.tracking import store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows import delivery_thread, plan, worker

PARTS: dict[str, tuple[Any, str]] = {
    "checkpoint of the last epoch": (checkpoint.Checkpoint, "write"),
    "validating the stored model": (training, "evaluate"),
    "… and its views": (worker, "evaluate_views"),
    "images for a figure": (plan, "preview"),
    "spooling": (spool, "put"),
    "reporting metrics": (worker, "announce"),
    "taking the next trial": (Queue, "take"),
    "opening its run": (worker, "_opened"),
    "asking for its parameters": (worker, "plan"),
    "building its network": (training, "fresh_network"),
}
"""Parts of a gap, in order, and the function that does each."""
FIRST_STEP, REST, ALL = "its first step, including compilation", "everything else", "in total"
BESIDE = "in parallel: figures, model and version"


def main() -> None:
    """Print median seconds over the gaps."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--weights", default="imagenet"),
        lambda parser: parser.add_argument("--backbones", default="vgg16"),
        lambda parser: parser.add_argument("--trials", type=int, default=9),
        lambda parser: parser.add_argument("--limit", type=int),
    )
    trials = min(options.trials, 5) if options.quick else options.trials
    search = SearchConfig(
        study="between",
        storage="sqlite:///optuna.db",
        data=measure.absolute(options.data),
        limit=options.limit or (1000 if options.quick else 3589),
        weights=measure.absolute(options.weights),
        backbones=options.backbones,
        image_sizes="48",
        trials=trials,
        epochs=2,
        sampler="random",
        pruner="none",
    )
    gaps = _gaps(search)
    medians = {
        name: statistics.median(gap[name] for gap in gaps)
        for name in (*PARTS, FIRST_STEP, REST, ALL, BESIDE)
    }
    rows = [[name, seconds] for name, seconds in medians.items()]
    numbers = {"between.seconds": medians[ALL], "between.beside_seconds": medians[BESIDE]}
    title = f"Between two trials of {options.backbones}, {search.limit} validation images"
    measure.close(title, measure.table(["", "s"], rows), numbers, options.json)


class _Clock:
    """Times the parts of each gap between two trials."""

    def __init__(self) -> None:
        self.gaps: list[dict[str, float]] = []
        self._now: dict[str, float] = {}
        self._epoch_began = self._epoch_ended = 0.0
        self._has_stepped = False

    def timed(self, name: str, function: Any) -> Any:
        """Wrap the function of a part to time it."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            done = function(*args, **kwargs)
            self._now[name] = time.perf_counter() - began
            return done

        return call

    def epoch(self, function: Any) -> Any:
        """Wrap the function of an epoch to note its beginning and end."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._epoch_began = time.perf_counter()
            self._has_stepped = kwargs["epoch"] > 1
            done = function(*args, **kwargs)
            self._epoch_ended = time.perf_counter()
            return done

        return call

    def batch(self, _epoch: int, _batch: int, _n_batches: int) -> None:
        """Note a batch; the first one of a trial ends a gap."""
        if self._has_stepped:
            return
        self._has_stepped = True
        now = time.perf_counter()
        if self._epoch_ended:
            gap = self._now | {FIRST_STEP: now - self._epoch_began, ALL: now - self._epoch_ended}
            gap[REST] = gap[ALL] - sum(gap[name] for name in (*PARTS, FIRST_STEP))
            self.gaps.append(gap)
        self._now = {}


def _gaps(search: SearchConfig) -> list[dict[str, float]]:
    """Train as a worker does, and return all gaps but the first."""
    clock, beside = _Clock(), list[float]()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(mock.patch.dict(os.environ, XDG_STATE_HOME=folder))
        for name, (owner, function) in PARTS.items():
            timed = clock.timed(name, getattr(owner, function))
            stack.enter_context(mock.patch.object(owner, function, timed))
        stack.enter_context(mock.patch.object(epochs, "run", clock.epoch(epochs.run)))
        stack.enter_context(mock.patch.object(Trial, "progress", clock.batch))
        stack.enter_context(
            mock.patch.object(
                delivery_thread, "deliver", _measured(delivery_thread.deliver, beside)
            )
        )
        _work(search)
    return [gap | {BESIDE: seconds} for gap, seconds in zip(clock.gaps, beside, strict=False)][1:]


def _measured(function: Any, into: list[float]) -> Any:
    def call(*args: Any) -> None:
        began = time.perf_counter()
        function(*args)
        into.append(time.perf_counter() - began)

    return call


def _work(search: SearchConfig) -> None:
    """Create a study in the working directory, and run a worker on it."""
    runtime.configure()
    splits = prepare(search)
    store.mlflow.set_tracking_uri("sqlite:///mlflow.db")
    client = store.connect()
    study_run = StudyRun(client, store.begin_run(client, search.study, {}))
    facts = {
        "run_id": study_run.run_id, "train_digest": splits.train_digest,
        "test_digest": splits.test_digest,
    }  # fmt: skip
    create_study(open_storage(search.storage), search, facts)
    worker.work(WorkerConfig(study=search.study, storage=search.storage))


if __name__ == "__main__":
    main()
