"""A worker: takes trials of a study until the budget is spent. `run_trial` is its core.

It needs only the study's name and storage: what all workers share (settings, digests, the study
run) is stored in the study. A worker that sees other data or another space refuses to start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from fer_search import processes, runtime, spool, stops
from fer_search.config import WorkerConfig
from fer_search.data.preparation import prepare
from fer_search.data.splits import Splits
from fer_search.errors import DataError, TrialFailed
from fer_search.preconditions import check_extra
from fer_search.progress import say
from fer_search.results import EpochMetrics, training_is_over
from fer_search.serving.evaluation import evaluate_views
from fer_search.spool import Spooled
from fer_search.study.leases import LeaseLost
from fer_search.study.studies import existing_study
from fer_search.study.study import Study
from fer_search.study.trial import Trial, TrialPruned
from fer_search.tracking import commands, store
from fer_search.tracking.monitor import system_metrics
from fer_search.tracking.outage import patiently
from fer_search.tracking.outbox import Outbox
from fer_search.tracking.runs import StudyRun, TrialRun
from fer_search.workflows.deliver import announce, deliver_left
from fer_search.workflows.delivery_thread import DeliveryThread
from fer_search.workflows.plan import Plan, plan

log = logging.getLogger(__name__)

RESUMED_TAG = "fer.resumed_after_epoch"
"""Tag of a trial's run: the epoch after which its training was last resumed."""
ORIGIN_TAG = "fer.origin"
"""Tag of a trial's run: where its parameters came from, if no sampler proposed them."""
HALVED_TAG = "fer.halved_batch"
"""Tag of a trial's run: batches did not fit into memory and were processed in two parts."""
GROWTH_BYTES = 3 * 2**30
"""A worker that has grown by more than this since its first trial restarts itself."""


def work(config: WorkerConfig) -> None:
    """Take and train trials until the study holds as many as it should.

    Raises:
        InputError: If there is no such study, or the data or the space are not the study's.
        StudyStopped: If trial after trial fails.
    """
    if config.parent:
        stops.stop_with(psutil.Process(config.parent))
    study = existing_study(config.storage, config.study)
    search = study.search
    check_extra(f"sampler={search.sampler}")
    runtime.configure(search.precision)
    study.check_space()
    splits = prepare(search)
    check_data(study, splits)
    client = patiently(store.connect)
    study_run = StudyRun(client, client.get_run(study.facts["run_id"]))
    tags = {"fer.study_run": study_run.run_id}
    patiently(lambda: commands.record(client, "worker", f"worker of {study.name}", tags))
    patiently(lambda: deliver_left(study, study_run))
    say(f"Working on study {study.name} of {search.trials} trials")
    after_first = None
    with DeliveryThread(study, study_run, spool.folder_of(study_run.run_id)) as delivery:
        while (trial := patiently(study.take)) is not None:
            say(f"trial {trial.number} · started")
            if finished := run_trial(trial, splits, study, study_run):
                delivery.send(finished)
            ended = patiently(study.trials)[trial.number]
            say(f"trial {trial.number} · {ended.state.lower()}")
            delivery.heed()
            stops.heed_stop()
            after_first = after_first or _memory()
            if _memory() - after_first > GROWTH_BYTES:
                delivery.wait()
                log.info("memory has grown by %.1f GiB: restarting", GROWTH_BYTES / 2**30)
                processes.restart()
    why = "is out of time" if study.is_late() else "needs no more trials"
    say(f"Study {study.name} {why}")


def _memory() -> int:
    """Count the bytes that only this process holds; the images are shared by all workers."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def check_data(study: Study, splits: Splits) -> None:
    """Refuse data whose digests differ from those that the study began with.

    Raises:
        DataError: If an image or label differs.
    """
    for name in ("train_digest", "test_digest"):
        if study.facts[name] != getattr(splits, name):
            raise DataError(
                f"study {study.name} was created with other data: {name} is "
                f"{getattr(splits, name)}, expected {study.facts[name]}",
                hint="restore the original data, or start a new study",
            )


def run_trial(trial: Trial, splits: Splits, study: Study, study_run: StudyRun) -> Spooled | None:
    """Train what the study suggests, record it, and tell the study how it ended.

    Returns:
        The trial if it was completed, still to be delivered; otherwise None.
    """
    folder, run = spool.folder_of(study_run.run_id), None
    try:
        run = patiently(lambda: _opened(trial, study, study_run))
        with Outbox(run) as outbox:
            end = _trained(trial, run, outbox, splits, study, folder)
        with spool.lock_of(folder, trial.number):
            finished = patiently(lambda: end(study_run))
    except LeaseLost:
        log.warning("trial %d: this process was silent too long, another took it", trial.number)
        return None
    except BaseException:  # a stop or a bug: the trial goes back into the queue
        if trial.give_back() and run:
            with contextlib.suppress(store.StoreException):  # the next start repairs it
                run.end_as("WAITING")
        raise
    spool.drop_checkpoints(folder, [trial.number])
    return finished


def _opened(trial: Trial, study: Study, study_run: StudyRun) -> TrialRun:
    """Open a trial's run and record it on the trial; a second attempt finds the first one's run."""
    is_new, trial.is_new = trial.is_new, False
    run = study_run.trial_run(study.name, trial.number, trial.run_id, is_new=is_new)
    if trial.run_id != run.run_id:
        trial.run_id = run.run_id
    return run


def _trained(
    trial: Trial, run: TrialRun, outbox: Outbox, splits: Splits, study: Study, folder: Path
) -> Callable[[StudyRun], Spooled | None]:
    """Train, and return the call that ends the trial; a completed one is in the spool by then."""
    try:
        file = spool.checkpoint_of(folder, trial.number)
        planned = patiently(lambda: plan(trial, study.search, file))
        outbox.put(functools.partial(_introduce, run, dict(planned.params), splits, trial.origin))
        heard: list[EpochMetrics] = []

        def on_epoch(epoch: EpochMetrics) -> None:
            stops.heed_stop()
            trial.check_lease()  # before logging an epoch that another worker may train
            if planned.checkpoint is None and epoch.epoch == 1:  # a `fit` may have asked for more
                outbox.put(functools.partial(run.log_params, dict(planned.params)))
            elif planned.checkpoint and planned.checkpoint.epoch_read == epoch.epoch:
                log.info("trial %d resumed after epoch %d", trial.number, epoch.epoch)
                outbox.put(functools.partial(run.set_tags, {RESUMED_TAG: epoch.epoch}))
            outbox.put(epoch)
            heard.append(epoch)
            is_last = training_is_over(heard, study.search.epochs, planned.patience)
            patiently(lambda: trial.report(epoch, is_last=is_last))  # may raise TrialPruned

        with system_metrics(run, [gpu.index for gpu in runtime.nvidia_gpus()]):
            train = functools.partial(
                planned.train, splits, on_epoch=on_epoch, on_batch=trial.progress
            )
            model, result = _within_memory(train, trial, planned, run)
            views = evaluate_views(
                model, splits.validation.images, result.validation, study.search.views
            )
        with spool.lock_of(folder, trial.number):
            trial.check_lease()
            spooled = spool.put(
                folder,
                number=trial.number,
                run_id=run.run_id,
                params=planned.params,
                result=dataclasses.replace(result, views=views),
                images=planned.images(splits),
                save_model=model.save,
            )
        return functools.partial(_completed, trial, spooled)
    except TrialPruned:
        return functools.partial(_pruned, trial, run)
    except TrialFailed as failure:
        log.warning("trial %d failed (%s): %s", trial.number, failure.kind, failure)
        return functools.partial(_failed, trial, run, failure)


def _within_memory(train: Callable[..., Any], trial: Trial, planned: Plan, run: TrialRun) -> Any:
    """Train; if memory does not suffice, or did not before, use half a batch at a time."""
    if planned.checkpoint is None:
        return train()
    if not trial.memory_kills:
        try:
            return train()
        except TrialFailed as failure:
            if failure.kind != "out_of_memory":
                raise
            log.warning("%s; retrying with half a batch at a time", failure.message)
    patiently(lambda: run.set_tags({HALVED_TAG: "true"}))
    return train(parts=2)


def _introduce(
    run: TrialRun, params: Mapping[str, Any], splits: Splits, origin: str | None
) -> None:
    source, url = splits.report["source"], splits.report["url"]
    run.log_datasets(name=source, url=url, digests={"training": splits.train_digest})
    run.log_params(params)
    if origin:
        run.set_tags({ORIGIN_TAG: origin})


def _completed(trial: Trial, spooled: Spooled, study_run: StudyRun) -> Spooled:
    announce(spooled, study_run, lambda: trial.complete(spooled.result))
    return spooled


def _pruned(trial: Trial, run: TrialRun, _: StudyRun) -> None:
    trial.prune()
    run.end_as("PRUNED")


def _failed(trial: Trial, run: TrialRun, failure: TrialFailed, _: StudyRun) -> None:
    trial.fail(failure)
    run.end_as("FAIL", {"failure.kind": failure.kind, "failure.message": failure.message})
