"""The search: from a request to a study with its trials, its best model and its test score.

It refuses what cannot work, fetches and packs the data once, and opens or resumes the study.
`running.py` keeps workers at it, and `finish.py` takes over when the trials are done.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
from collections.abc import Iterator

from fer_search import runtime
from fer_search.config import AUTO, NONE, SearchConfig, weights_for
from fer_search.data.preparation import prepare
from fer_search.data.splits import Splits, summary
from fer_search.invocation import Invocation
from fer_search.model import backbones
from fer_search.model.custom_training import check_network
from fer_search.preconditions import check_agreement, check_extra
from fer_search.progress import say
from fer_search.study import custom
from fer_search.study.studies import Points, RDBStorage, create_study, find_study, open_storage
from fer_search.study.study import Study
from fer_search.study.warm_start import earlier_study, warm_points
from fer_search.tracking import store
from fer_search.tracking.logged_run import LoggedRun
from fer_search.tracking.outage import attempt, patiently
from fer_search.tracking.runs import StudyRun
from fer_search.trials import n_finished
from fer_search.workflows import guidance
from fer_search.workflows.description import page
from fer_search.workflows.finish import finish
from fer_search.workflows.launcher import launcher_of
from fer_search.workflows.running import repair, run_trials
from fer_search.workflows.standby import Standby
from fer_search.workflows.worker import check_data


def search(config: SearchConfig, invocation: Invocation, standby: Standby) -> None:
    """Run a study until it holds the trials that were asked for, then finish it.

    Args:
        config: The request, with absolute paths.
        invocation: How the command was started, for the commands that are printed.
        standby: Processes that can become the workers.

    Raises:
        InputError: If the request is impossible; no study has been changed then.
        StudyStopped: If trial after trial fails, a worker meets a bug, or there is no best model.
        KeyboardInterrupt: If told to stop; the study is left so that it can be resumed.
    """
    storage = open_storage(config.storage)
    found = find_study(storage, config.study) if config.study != AUTO else None
    settings = found.search.resumed_by(config) if found else _named(config)
    earlier = None if found else earlier_study(storage, settings)
    say(guidance.beginning(storage, found, settings, config))
    check_agreement(settings)
    check_extra(f"sampler={settings.sampler}")
    client = store.connect()
    if not (found or store.has_run_to_adopt()):
        store.experiment(client)  # refuse one that is gone before the data are prepared
    device = runtime.configure(settings.precision)
    say(f"{device.name} · {device.backend} · {device.precision}")
    launcher = launcher_of(settings, client, device, standby)
    if settings.image_sizes == AUTO:
        settings = settings.model_copy(update={"image_sizes": device.image_sizes})
    if found:
        found.check_space()
    _check_networks(settings)
    splits = prepare(settings)
    say(summary(splits.report))
    if found:
        check_data(found, splits)
        study_run = StudyRun.of(client, found.name, found.facts["run_id"])
        _resume(found, study_run, settings, device)
    else:
        first = warm_points(earlier, settings, splits.test_digest) if earlier else ()
        study_run = StudyRun(client, store.begin_run(client, settings.study, config.to_params()))
    with _ending(study_run):
        if found:
            study = found
            client.update_run(study_run.run_id, status="RUNNING")
        else:
            study_run.set_tags({"fer.command": "search", "optuna.study": settings.study})
            study = _made(storage, study_run, settings, splits, first)
        if earlier:
            study_run.set_tags({"fer.warm_start_run": earlier.facts["run_id"]})
        resume = guidance.resume_command(study, config, invocation)
        say(f"Study {study.name}, run {study_run.run_id}.")
        if n_finished(study.trials()) < study.search.trials:
            say(f"To resume it after a stop:\n  {resume}\n")
        with _resumable(study, study_run, resume):
            _describe(study_run, study, splits, device)
            timed_out = run_trials(study, study_run, launcher, config.storage)
            score = patiently(lambda: finish(study, study_run, splits, timed_out=timed_out))
    commands = guidance.what_next(study, study_run, config, invocation, timed_out=timed_out)
    say("\n" + "\n".join(f"{what + ':':20}{command}" for what, command in commands.items()))
    del commands[guidance.COMPARE]  # the reader of the page is already there
    last = patiently(study.trials)
    patiently(lambda: study_run.describe(page(last, study_run.experiment_id, commands, score)))


def _check_networks(settings: SearchConfig) -> None:
    """Refuse a HyperModel that cannot be built, and weights that are missing or do not fit.

    Raises:
        InputError: In any of these cases.
    """
    if settings.hypermodel != NONE:
        check_network(custom.example(settings), settings.hypermodel)
        return
    for backbone in settings.backbones:
        backbones.check_weights(backbone, weights_for(backbone, settings.weights))


def _named(config: SearchConfig) -> SearchConfig:
    """Give a new study a unique name, even among those that begin in the same second."""
    if config.study != AUTO:
        return config
    name = f"fer-{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return config.model_copy(update={"study": name})


def _made(
    storage: RDBStorage, run: StudyRun, settings: SearchConfig, splits: Splits, first: Points
) -> Study:
    """Create the study of a run.

    Raises:
        StoreError: If another search has created it since this one looked.
    """
    facts = {
        "run_id": run.run_id,
        "train_digest": splits.train_digest,
        "test_digest": splits.test_digest,
        "seconds_used": 0.0,
    }
    return create_study(storage, settings, facts, first)


def _resume(
    study: Study, study_run: StudyRun, settings: SearchConfig, device: runtime.Device
) -> None:
    """Resume a study with these settings, and tag the run that `mlflow run` opened for this."""
    before = study_run.tags.get("backend", device.backend)
    if before != device.backend and n_finished(study.trials()) < settings.trials:
        say(f"It trained with {before} so far and continues with {device.backend}.")
    patiently(lambda: study.resume(settings))
    client = study_run.client
    if store.has_run_to_adopt():
        resume = LoggedRun(client, store.begin_run(client, f"resume {study.name}", {}))
        resume.set_tags({"fer.command": "search", "fer.study_run": study_run.run_id})
        resume.end("FINISHED")


def _describe(run: StudyRun, study: Study, splits: Splits, device: runtime.Device) -> None:
    """Record on the study run what is searched, on which data, and with what."""
    digests = {"training": study.facts["train_digest"], "test": study.facts["test_digest"]}
    source, url = splits.report["source"], splits.report["url"]
    run.log_datasets(name=source, url=url, digests=digests)
    run.log_json(splits.report, "data.json")
    run.log_json(study.facts["search"], "config.json")
    run.log_json(runtime.environment(device), "environment.json")
    run.set_tags(
        {
            "device": device.name,
            "backend": device.backend,
            "precision": device.precision,
            "train_digest": study.facts["train_digest"],
            "test_digest": study.facts["test_digest"],
        }
    )


@contextlib.contextmanager
def _ending(study_run: StudyRun) -> Iterator[None]:
    """End the study run, whatever happens."""
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        attempt(lambda: study_run.end(status))
        raise
    patiently(lambda: study_run.end("FINISHED"))


@contextlib.contextmanager
def _resumable(study: Study, study_run: StudyRun, resume: str) -> Iterator[None]:
    """Whatever happens, leave no dead trial RUNNING, and say how to resume."""

    def describe() -> None:
        commands = {"Resume after a stop": resume}
        study_run.describe(page(study.trials(), study_run.experiment_id, commands))

    try:
        describe()
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            with contextlib.suppress(OSError):  # the terminal may be gone
                say(f"Finished work is kept. To resume:\n  {resume}")
        attempt(lambda: repair(study, study_run))
        attempt(describe)
        raise
