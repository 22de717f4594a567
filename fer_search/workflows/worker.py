"""A worker: takes trials of a study until the budget is spent. `run_trial` is the heart.

It needs no more than the study's name and storage: what all workers share (settings, digests, the
study run) stands in the study. A worker that sees other data or another space refuses to start.
"""

from __future__ import annotations

import dataclasses
import logging

import psutil

from fer_search import processes, runtime, spool
from fer_search.config import WorkerConfig
from fer_search.data.preparation import prepare
from fer_search.data.splits import Splits
from fer_search.errors import DataError, TrialFailed
from fer_search.results import EpochMetrics
from fer_search.serving.evaluation import evaluate_views
from fer_search.study.leases import LeaseLost
from fer_search.study.studies import Study, existing_study
from fer_search.study.trial import Trial, TrialPruned
from fer_search.tracking import store
from fer_search.tracking.monitor import system_metrics
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.deliver import deliver
from fer_search.workflows.plan import plan

log = logging.getLogger(__name__)

RESUMED_TAG = "fer.resumed_after_epoch"
"""Tag of a trial's run: the epoch that was done when its training last went on after a stop."""


def work(config: WorkerConfig) -> None:
    """Take and train trials until the study holds as many as it shall.

    Raises:
        InputError: If there is no such study, or data or space are not the study's.
        StudyStopped: If trial after trial fails.
    """
    if config.parent:
        processes.stop_with(psutil.Process(config.parent))
    study = existing_study(config.storage, config.study)
    search = study.search
    runtime.configure(search.precision)
    study.check_space()
    splits = prepare(search)
    check_data(study, splits)
    client = store.connect()
    study_run = StudyRun(client, client.get_run(study.facts["run_id"]))
    while (trial := study.take()) is not None:
        run_trial(trial, splits, study, study_run)


def check_data(study: Study, splits: Splits) -> None:
    """Refuse data whose digests are not those that the study began with.

    Raises:
        DataError: If a picture or label differs.
    """
    for name in ("train_digest", "test_digest"):
        if study.facts[name] != getattr(splits, name):
            raise DataError(
                f"study {study.name} was made on other data: {name} is "
                f"{getattr(splits, name)}, expected {study.facts[name]}",
                hint="restore the data as they were, or start a new study on these",
            )


def run_trial(trial: Trial, splits: Splits, study: Study, study_run: StudyRun) -> None:
    """Train what the study suggests, record it, and tell the study how it ended."""
    run = study_run.trial_run(study.name, trial.number, trial.run_id)
    trial.run_id = run.run_id
    source, url = splits.report["source"], splits.report["url"]
    run.log_datasets(name=source, url=url, digests={"training": splits.train_digest})

    first = None

    def on_epoch(epoch: EpochMetrics) -> None:
        nonlocal first
        if first is None and epoch.epoch > 1:
            log.info("trial %d goes on after epoch %d", trial.number, epoch.epoch)
            run.set_tags({RESUMED_TAG: epoch.epoch})
        first = first or epoch.epoch
        if epoch.epoch == 1:
            run.log_params(planned.params)  # a foreign `fit` may have asked for more
        run.log_epoch(epoch)
        trial.report(epoch)  # raises TrialPruned when the pruner says so

    folder = spool.folder_of(study_run.run_id)
    try:
        planned = plan(trial, study.search, spool.checkpoint_of(folder, trial.number))
        run.log_params(planned.params)
        with system_metrics(run.client, run.run_id, [gpu.index for gpu in runtime.nvidia_gpus()]):
            model, result = planned.train(splits, on_epoch=on_epoch, on_batch=trial.progress)
            views = evaluate_views(
                model, splits.validation.images, result.validation, study.search.views
            )
        with spool.lock_of(folder, trial.number):
            spooled = spool.put(
                folder,
                number=trial.number,
                run_id=run.run_id,
                params=planned.params,
                result=dataclasses.replace(result, views=views),
                pictures=planned.pictures(splits),
                save_model=model.save,
            )
            deliver(spooled, study, study_run, lambda: trial.complete(result))
    except TrialPruned:
        trial.prune()
        run.end_as("PRUNED")
    except TrialFailed as failure:
        log.warning("trial %d failed (%s): %s", trial.number, failure.kind, failure)
        trial.fail(failure)
        run.end_as("FAIL", {"failure.kind": failure.kind, "failure.message": failure.message})
    except LeaseLost:
        log.warning("trial %d: this process was silent too long, another has it", trial.number)
        return
    except BaseException:  # a stop or a bug: the trial goes back into the queue
        if trial.give_back():
            run.end_as("WAITING")
        raise
    spool.drop_checkpoints(folder, [trial.number])
