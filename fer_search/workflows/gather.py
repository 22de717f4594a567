"""Read a study's findings from Optuna's storage, MLflow's store and the data; change nothing.

The test set is not opened: the chosen model's answers at its one opening are an artifact of the
study run. What a store does not hold, because the study is still running or too old, is left out,
and the report says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from fer_search.data.preparation import prepare
from fer_search.data.splits import Splits
from fer_search.errors import InputError
from fer_search.reporting.findings import Findings, Tested
from fer_search.results import EpochMetrics, Evaluation
from fer_search.study.study import Study
from fer_search.tracking import store
from fer_search.tracking.runs import StudyRun
from fer_search.trials import TrialSummary, best_of

log = logging.getLogger(__name__)

_VIEWS = "probabilities_views"
_MACHINE = ("device", "backend", "precision")
_COMMIT = "mlflow.source.git.commit"


def gather(study: Study, study_run: StudyRun) -> Findings:
    """Read everything that a report says about a study."""
    trials, tags = study.trials(), study_run.tags
    splits, no_images = _splits(study)
    return Findings(
        search=study.search,
        facts=study.facts,
        run_id=study_run.run_id,
        began=study_run.began,
        made=time.time(),
        trials=trials,
        importances=study.importances(),
        metrics=study_run.completed(),
        curves=_curves(study_run, best_of(trials)),
        data=study_run.read_json("data.json") or {},
        environment=study_run.read_json("environment.json") or _tagged_environment(tags),
        openings=study_run.openings(),
        tested=_tested(study_run, tags),
        splits=splits,
        no_images=no_images,
    )


def _curves(study_run: StudyRun, best: TrialSummary | None) -> list[EpochMetrics]:
    if best is None or best.run_id is None or not store.holds(study_run.client, best.run_id):
        return []
    return study_run.existing(best.run_id).epochs()


def _tagged_environment(tags: Mapping[str, str]) -> dict[str, Any]:
    """Collect what the tags tell of a run without an `environment.json`."""
    known = {name: tags[name] for name in _MACHINE if name in tags}
    return known | ({"commit": tags[_COMMIT]} if _COMMIT in tags else {})


def _tested(study_run: StudyRun, tags: Mapping[str, str]) -> Tested | None:
    """Read the stored answers on the test set, once the tag says that they are complete."""
    arrays = study_run.read_arrays("test_predictions.npz") if "best_trial" in tags else {}
    if f"{_VIEWS}1" not in arrays:
        return None
    views = {
        int(name.removeprefix(_VIEWS)): Evaluation(arrays["labels"], probabilities)
        for name, probabilities in arrays.items()
        if name.startswith(_VIEWS)
    }
    return Tested(trial=int(tags["best_trial"]), views=views, origins=arrays["origins"])


def _splits(study: Study) -> tuple[Splits | None, str]:
    """Get the images of a study, or the reason why they cannot be shown."""
    log.info("Loading the images of study %s", study.name)
    try:
        splits = prepare(study.search)
    except InputError as error:
        return None, error.message
    same = [study.facts[name] == getattr(splits, name) for name in ("train_digest", "test_digest")]
    if not all(same):
        return None, f"{study.search.data} has changed since the study was created"
    return splits, ""
