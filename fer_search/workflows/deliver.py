"""Deliver completed trials from the spool to Optuna, MLflow and the registry.

Order: metrics -> tell Optuna -> figures, model, version -> end the run -> empty the spool. The
sampler waits for the first two (`announce`); nothing waits for the rest (`deliver`), which
`delivery_thread.py` does while the next trial trains. Each step can be repeated without duplicating
anything, so what was cut short is simply done again, by the worker that trained or by the next
start of the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from filelock import Timeout

from fer_search import spool
from fer_search.figures import trial as trial_figures
from fer_search.serving import package
from fer_search.spool import Spooled
from fer_search.study.leases import LeaseLost
from fer_search.study.study import Study
from fer_search.tracking import registry
from fer_search.tracking.models import MODEL_TAG
from fer_search.tracking.runs import StudyRun
from fer_search.trials import ENDED


def announce(spooled: Spooled, study_run: StudyRun, tell: Callable[[], None]) -> None:
    """Log the results of a finished trial, and tell the sampler.

    Args:
        spooled: The trial in the spool.
        study_run: Run of its study.
        tell: Tells Optuna; called once the metrics are safe.
    """
    run, result = study_run.existing(spooled.run_id), spooled.result
    run.log_epochs(result.epochs)  # skips those already logged
    final = result.validation.metrics("val") | {
        "best_epoch": result.best_epoch,
        "train_seconds": result.train_seconds,
        "model_parameters": result.model_parameters,
    }
    for views, evaluation in result.views.items():
        final |= evaluation.metrics("val", views)
    run.log_metrics(final, step=0, at=spooled.finished_at)
    tell()


def deliver(spooled: Spooled, study: Study, study_run: StudyRun) -> None:
    """Deliver everything else that an announced trial left in the spool.

    Args:
        spooled: The trial in the spool.
        study: Its study.
        study_run: Run of the study.
    """
    run, result = study_run.existing(spooled.run_id), spooled.result
    title = f"Trial {spooled.number} on validation"
    figures = {
        "confusion_matrix.png": trial_figures.confusion_matrix(result.validation, title),
        "learning_curves.png": trial_figures.learning_curves(result.epochs, result.best_epoch),
    }
    if spooled.images:
        figures["augmentation.png"] = trial_figures.augmentation(**spooled.images)
    run.log_figures(figures)
    run.log_json(result.validation.report(), "classification_report.json")
    params = {key: str(value) for key, value in spooled.params.items()}
    model_id = package.log_model(
        run.client,
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        keras_file=spooled.model,
        name=f"{_network(params)}-trial-{spooled.number:03d}",
        params=params,
        tags={"study": study.name},
    )
    if study.search.register_ == "all":
        register(study, study_run, spooled.number, run.run_id, model_id)
    run.set_tags({MODEL_TAG: model_id})  # now a search may register it, too
    run.end_as("COMPLETE")
    spooled.remove()


def deliver_left(study: Study, study_run: StudyRun) -> None:
    """Finish the deliveries that a kill cut short on this machine, and empty the spool."""
    folder = spool.folder_of(study_run.run_id)
    spool.drop_checkpoints(folder, [t.number for t in study.trials() if t.state in ENDED])
    for spooled in spool.waiting(folder):
        try:
            with spool.lock_of(folder, spooled.number).acquire(timeout=0):
                _deliver_left(spooled, study, study_run)
        except (Timeout, LeaseLost):  # a live worker is at it
            continue


def _deliver_left(spooled: Spooled, study: Study, study_run: StudyRun) -> None:
    """Announce a trial if nobody has, and deliver it, unless it ended otherwise or runs again."""
    trial = study.take_number(spooled.number)
    if trial is None:
        known = study.trials()[spooled.number]
        is_told = known.state == "COMPLETE" and known.value == spooled.result.objective
        if known.state in ENDED and not is_told:
            spooled.remove()
        if not is_told:
            return
    try:
        announce(spooled, study_run, lambda: trial.complete(spooled.result) if trial else None)
        deliver(spooled, study, study_run)
    except BaseException:
        if trial:
            trial.let_go()
        raise


def register(study: Study, study_run: StudyRun, number: int, run_id: str, model_id: str) -> str:
    """Make the stored model of a trial a version in the registry, unless it is one already.

    Args:
        study: Study of the trial.
        study_run: Run of the study.
        number: Number of the trial.
        run_id: Id of the trial's run.
        model_id: Id of the logged model.

    Returns:
        The number of the version.
    """
    data = study_run.client.get_run(run_id).data
    return registry.register(
        study_run.client,
        study.search.registered_model,
        model_id=model_id,
        run_id=run_id,
        tags={
            "study": study.name,
            "trial_number": str(number),
            "val_macro_f1": f"{data.metrics['val_macro_f1']:.6f}",
            "train_digest": study.facts["train_digest"],
            "test_digest": study.facts["test_digest"],
            "backbone": _network(data.params),
        },
    )


def _network(params: Mapping[str, str]) -> str:
    """Get the name of the backbone, or of the HyperModel that built the network."""
    return params.get("hypermodel", params.get("backbone", "")).rpartition(":")[2]
