"""A small store to clean, with a study of six trials, and helpers to inspect it."""

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

import mlflow

from fer_search.command_config import CleanConfig
from fer_search.invocation import Invocation
from fer_search.tracking import models, registry, store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.clean import clean

NAME = "fer-emotion"
LARGE, SMALL = 300_000, 100_000
TRIALS = {  # number: score, bytes, whether registered
    0: (0.9, LARGE, True),
    1: (0.8, LARGE, True),
    2: (0.7, LARGE, True),
    3: (0.6, LARGE, False),
    4: (0.5, SMALL, True),
    5: (0.4, LARGE, True),
}
VERSIONS = {0: "1", 1: "2", 2: "3", 4: "4", 5: "5"}
"""Version by trial; trial 0 is the challenger, trial 2 the champion."""


def begin_study(client, name, trials):
    """Store the models of a finished study, as a search does."""
    study_run = StudyRun(client, store.begin_run(client, name, {}))
    study_run.set_tags({"fer.command": "search", "optuna.study": name})
    for number, (score, size, is_registered) in trials.items():
        run = study_run.trial_run(name, number, None)
        run.log_metrics({"val_macro_f1": score}, step=0, at=number)
        model_name = f"tiny-trial-{number:03d}"
        model_id = store_model(
            client, client.get_run(run.run_id), model_name, size, {"study": name}
        )
        run.set_tags({models.MODEL_TAG: model_id})
        if is_registered:
            tags = {"study": name, "trial_number": str(number)}
            registry.register(client, NAME, model_id=model_id, run_id=run.run_id, tags=tags)
        run.end_as("COMPLETE")
    study_run.end("FINISHED")


def store_model(client, run, name, size, tags):
    model = client.create_logged_model(run.info.experiment_id, name, run.info.run_id, tags=tags)
    folder = Path("package")
    (folder / "artifacts").mkdir(parents=True)
    (folder / "MLmodel").write_text("m" * 500)
    (folder / "artifacts" / "model.keras").write_bytes(b"k" * size)
    client.log_model_artifacts(model.model_id, str(folder))
    shutil.rmtree(folder)
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id


def run_clean(**wishes):
    invocation = Invocation(Path.cwd(), None, ("python", "-m", "fer_search"))
    clean(CleanConfig(**{"keep": 1} | wishes), invocation)


def stored(client):
    """Models that the store still lists, by trial; -1 for one that no search made."""
    return {model.trial: model for model in models.inventory(client)}


def files():
    return {file: file.stat().st_size for file in Path("artifacts").rglob("*") if file.is_file()}


def kept_bytes():
    return sum(size for file, size in files().items() if "models" in file.parts)


def aliases_of(client):
    return {key: str(value) for key, value in client.get_registered_model(NAME).aliases.items()}


def versions(client):
    return sorted(str(each.version) for each in client.search_model_versions(f"name = '{NAME}'"))


def loads(uri):
    """Whether a model's files can be downloaded in the usual way."""
    with tempfile.TemporaryDirectory() as folder:
        mlflow.artifacts.download_artifacts(uri, dst_path=folder)
        return Path(folder, "artifacts", "model.keras").stat().st_size > 0


def content():
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database:
        return "\n".join(database.iterdump())


def end_state(client):
    """Everything that `clean` changes, except times and its own runs."""
    experiment = client.get_experiment_by_name("faces").experiment_id
    children = client.search_runs([experiment], "tags.`optuna.trial_number` LIKE '%'")
    return (
        {trial: bool(model.begun) for trial, model in stored(client).items()},
        versions(client),
        aliases_of(client),
        sorted((file.name, size) for file, size in files().items() if "models" in file.parts),
        {run.info.run_name: run.data.tags.get(models.REMOVED_TAG, "")[25:] for run in children},
    )


WHY = ": not among the best 1, and another is as good and as small"
CLEANED = (
    {-1: False, 0: False, 2: False, 4: False},
    ["1", "3", "4"],
    {"challenger": "1", "champion": "3"},
    [("MLmodel", 500)] * 4 + [("model.keras", SMALL)] + [("model.keras", LARGE)] * 3,
    {f"trial-00{n}": WHY if n in (1, 3, 5) else "" for n in TRIALS},
)
"""Result of `end_state` when everything that can go has gone, with keep=1."""
