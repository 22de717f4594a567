"""The end of a study: the chosen trial, its test score, the figures, and what to do next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fer_search.data.splits import Splits
from fer_search.errors import StudyStopped
from fer_search.figures import study as study_figures
from fer_search.figures import trial as trial_figures
from fer_search.model.training import evaluate
from fer_search.progress import console, say
from fer_search.results import Evaluation
from fer_search.serving.evaluation import evaluate_views
from fer_search.serving.package import load_keras
from fer_search.study.study import Study
from fer_search.terminal_tables import top_trials
from fer_search.tracking import aliases
from fer_search.tracking.models import MODEL_TAG
from fer_search.tracking.runs import StudyRun
from fer_search.trials import ENDED, WORDS, TrialSummary, best_of, n_finished
from fer_search.workflows.deliver import register

VERSION_TAG = "fer.best_version"
"""Tag of the study run: the registered version of the best trial's model."""
_STORING_SECONDS = 120.0
"""How long the model of a trial that a worker elsewhere has just completed may take to arrive."""
_SHORTLY = 10.0
"""The same if workers were told to stop."""


def finish(study: Study, study_run: StudyRun, splits: Splits, *, timed_out: bool) -> str:
    """Evaluate the trial chosen by validation on the test set, and present the study.

    Returns:
        A sentence on the test score.

    Raises:
        StudyStopped: If no trial was completed, or the model of the best one is not stored in time.
    """
    trials = study.trials()
    log_counts(study_run, trials)
    study_run.log_figures(_figures(study, trials))
    best = best_of(trials)
    if timed_out:
        say(f"Time is up; trials: {_counted(trials) or 'none has finished'}.")
    if best is None:
        raise StudyStopped(
            f"no trial was completed ({_counted(trials) or 'none has finished'})",
            hint="resume with a larger timeout=…"
            if timed_out
            else "resume with more trials=…, or start a study with pruner=none",
        )
    model_id = _delivered(study_run, best, seconds=_SHORTLY if timed_out else _STORING_SECONDS)
    _register(study, study_run, best, model_id)
    _score_once(study, study_run, splits, best, model_id)
    console.print(top_trials(trials))
    score = _score(study_run, best)
    say(score)
    return score


def count(trials: Sequence[TrialSummary]) -> Counter[str]:
    """Count the trials that ended, by state."""
    return Counter(trial.state for trial in trials if trial.state in ENDED)


def _counted(trials: Sequence[TrialSummary]) -> str:
    return ", ".join(f"{number} {WORDS[state]}" for state, number in count(trials).items())


def log_counts(study_run: StudyRun, trials: Sequence[TrialSummary]) -> None:
    """Log the study's progress and its best value, by the number of finished trials."""
    n = count(trials)
    step, now = n_finished(trials), time.time()
    values: dict[str, float] = {
        "trials_complete": n["COMPLETE"],
        "trials_pruned": n["PRUNED"],
        "trials_failed": n["FAIL"],
    }
    best = best_of(trials)
    if best and best.value is not None:
        values["best_val_macro_f1"] = best.value
    study_run.log_metrics(values, step=step, at=now)


def _figures(study: Study, trials: Sequence[TrialSummary]) -> dict[str, Any]:
    return {
        "optimization_history.png": study_figures.optimization_history(trials),
        "trial_curves.png": study_figures.trial_curves(trials),
        "parameters.png": study_figures.parameters(trials),
        "parameter_importances.png": study_figures.parameter_importances(study.importances()),
    }


def _delivered(study_run: StudyRun, best: TrialSummary, seconds: float) -> str:
    """Wait for the model of the best trial, which another worker may be storing; return its id.

    Raises:
        StudyStopped: If it does not arrive in time.
    """
    began, is_said = time.monotonic(), False
    while not (model_id := study_run.existing(str(best.run_id)).tags.get(MODEL_TAG)):
        if not is_said:
            say(f"Waiting for the model of trial {best.number}, the best …")
            is_said = True
        if time.monotonic() - began > seconds:
            raise StudyStopped(
                f"trial {best.number}, the best, is complete, but its model is not stored yet",
                hint="another worker may be uploading it; if that worker was killed, start one on "
                "its machine again to deliver the model, then resume the study",
            )
        time.sleep(1)
    return model_id


def _register(study: Study, study_run: StudyRun, best: TrialSummary, model_id: str) -> None:
    """Make the best model the challenger, unless it was before, or nothing is to be registered."""
    if study.search.register_ == "none":
        return
    version = register(study, study_run, best.number, str(best.run_id), model_id)
    if study_run.tags.get(VERSION_TAG) != version:  # else a later study may have set its own
        aliases.set_challenger(study_run.client, study.search.registered_model, version)
        study_run.set_tags({VERSION_TAG: version})


def _score_once(
    study: Study, study_run: StudyRun, splits: Splits, best: TrialSummary, model_id: str
) -> None:
    """Open the test set for the chosen trial; if that was done before, its score stands."""
    if study_run.tags.get("best_trial") == str(best.number):
        return
    openings = study_run.open_test(best.number, "chosen by validation")
    say(f"Testing trial {best.number} on {len(splits.test)} test images …")
    model, _ = load_keras(study_run.client, model_id)
    evaluation = evaluate(model, splits.test.images, splits.test.labels)
    views = evaluate_views(model, splits.test.images, evaluation, study.search.views)
    of_views = {1: evaluation} | views
    arrays = {f"probabilities_views{n}": e.probabilities for n, e in of_views.items()}
    arrays |= {"origins": splits.test.origins, "labels": evaluation.labels}
    study_run.log_arrays(arrays, "test_predictions.npz")
    _log_test(study_run, evaluation, views, best, openings)


def _log_test(
    study_run: StudyRun,
    evaluation: Evaluation,
    views: Mapping[int, Evaluation],
    best: TrialSummary,
    openings: int,
) -> None:
    title = f"Trial {best.number} on test"
    metrics = evaluation.metrics("test")
    for number, of_views in views.items():
        metrics |= of_views.metrics("test", number)
    study_run.log_metrics(metrics, step=openings, at=time.time())
    study_run.log_json(evaluation.report(), "test_classification_report.json")
    study_run.log_json(evaluation.intervals(), "test_intervals.json")
    study_run.log_figures(
        {
            "test_confusion_matrix.png": trial_figures.confusion_matrix(evaluation, title),
            "test_f1.png": trial_figures.per_emotion_f1(evaluation, title),
        }
    )
    study_run.set_tags(  # last: they say that the score is complete
        {"best_trial": best.number, "best_run": best.run_id}
    )


def _score(study_run: StudyRun, best: TrialSummary) -> str:
    data = study_run.client.get_run(study_run.run_id).data
    openings = int(data.tags["test_openings"])
    return (
        f"Test score of trial {best.number}: accuracy {data.metrics['test_accuracy']:.4f}, "
        f"macro-F1 {data.metrics['test_macro_f1']:.4f} "
        f"(test set opened {openings} time{'s' * (openings > 1)} in this study)"
    )
