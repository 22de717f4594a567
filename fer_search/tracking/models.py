"""The models that trials left in MLflow: their size, what needs them, and how to delete one.

A deletion has five steps, in this order: set the mark `REMOVING`, delete the versions, delete the
files, leave a note on the trial's run, delete the logged model itself. Versions are read again
before each step that cannot be undone, so no file goes while a version needs it. A marked model is
listed until the last step, so the next call after a kill goes on; see `docs/decisions/cleaning.md`.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Sequence

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from fer_search.errors import StoreError
from fer_search.retention import StoredModel, Version
from fer_search.tracking import registry, store
from fer_search.tracking.registry import REMOVING
from fer_search.tracking.runs import PARENT

MODEL_TAG = "fer.model_id"
"""Tag of a trial's run: the logged model that it produced."""
REMOVED_TAG = "fer.model_removed"
"""Tag of a trial's run: when and why its model was deleted."""


def inventory(client: MlflowClient, study: str | None = None) -> list[StoredModel]:
    """List the logged models of the store, including those that no search made.

    Args:
        client: Client of the tracking store.
        study: Name of a study, to list only its models.

    Raises:
        StoreError: If the study has no stored models.
    """
    experiments = [
        each.experiment_id
        for each in store.every(lambda token: client.search_experiments(page_token=token))
    ]
    found = list(
        store.every(lambda token: client.search_logged_models(experiments, page_token=token))
    )
    if study is not None:
        known = sorted({model.tags["study"] for model in found if "study" in model.tags})
        if study not in known:
            raise StoreError(
                f"study={study} has no stored models; studies with models: "
                f"{', '.join(known) or 'none'}",
                hint="name one of these, or omit study to see all",
            )
        found = [model for model in found if model.tags.get("study") == study]
    runs = _trials_and_studies(client, experiments)
    running = {
        each
        for run_id, run in runs.items()
        if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active"
        for each in (run_id, run.data.tags.get(PARENT))  # a study run may have a parent, too
    }
    versions = registry.versions(client)
    return [
        _stored(client, model, runs.get(model.source_run_id), running, versions) for model in found
    ]


def delete(client: MlflowClient, model: StoredModel, *, versions: bool, why: str) -> str:
    """Delete a model that nothing needs; calling again after a kill finishes what was begun.

    Args:
        client: Client of the tracking store.
        model: A model that a trial made.
        versions: Whether its versions may be deleted, if no alias points at them.
        why: The reason, for the record.

    Returns:
        What needs the model now, so that it was kept; empty if it was deleted.

    Raises:
        StoreError: If its files cannot be deleted.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    note = model.begun or f"{now}: {why}"
    client.set_logged_model_tags(model.model_id, {REMOVING: note})
    while found := registry.versions_of(client, model.model_id, model.run_id):
        for version in found:
            if version.uses or not (versions and version.is_ours):
                restore(client, model)
                return f"{version} is {', '.join(version.uses) or 'registered'}"
        registry.delete(client, found[0])
    _delete_files(client, model)
    if store.holds(client, model.run_id):
        client.set_tag(model.run_id, REMOVED_TAG, note)
    client.delete_logged_model(model.model_id)
    return ""


def is_listed(client: MlflowClient, model_id: str) -> bool:
    """Tell whether the store has this logged model and it is not deleted."""
    try:
        client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return False
    return True


def has_files(client: MlflowClient, model_id: str) -> bool:
    """Tell whether a logged model exists and has files."""
    try:
        location = client.get_logged_model(model_id).artifact_location
        return bool(_repository(client, location).list_artifacts())
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return False


def restore(client: MlflowClient, model: StoredModel) -> None:
    """Remove the mark from a model that stays."""
    client.delete_logged_model_tag(model.model_id, REMOVING)


def _stored(
    client: MlflowClient,
    model: LoggedModel,
    run: Run | None,
    running: Container[str | None],
    versions: Sequence[Version],
) -> StoredModel:
    tags = run.data.tags if run else {}
    is_ours = PARENT in tags and model.tags.get("study") == tags["optuna.study"]
    is_whole = model.status == LoggedModelStatus.READY and tags.get(MODEL_TAG) == model.model_id
    begun, run_id = model.tags.get(REMOVING, ""), model.source_run_id or ""
    size, held = 0, ""
    try:
        size = _size(_repository(client, model.artifact_location))
    except (MlflowException, OSError, ImportError) as error:
        held = f"its files cannot be listed: {error}"
    if not is_ours:
        held = "not made by a search"
    elif tags[PARENT] in running:
        held = "its study is running, or was killed: resume it first"
    elif not is_whole:
        held = "not stored completely: resume its study"
    elif not (size or held or begun):
        held = "its files are not found (deleted, or a disk not mounted)"
    return StoredModel(
        model_id=model.model_id,
        name=model.name,
        study=tags["optuna.study"] if is_ours else "",
        study_run_id=tags[PARENT] if is_ours else "",
        trial=int(tags["optuna.trial_number"]) if is_ours else -1,
        run_id=run_id,
        score=run.data.metrics.get("val_macro_f1") if run and is_whole and size else None,
        location=model.artifact_location,
        size=size,
        versions=tuple(each for each in versions if each.loads(model.model_id, run_id)),
        held=held,
        begun=begun,
    )


def _repository(client: MlflowClient, location: str) -> ArtifactRepository:
    """Open MLflow's access to the files at a location, on this disk or elsewhere."""
    return get_artifact_repository(location, tracking_uri=client.tracking_uri)


def _size(repository: ArtifactRepository, folder: str | None = None) -> int:
    """Sum the bytes of all files."""
    return sum(
        _size(repository, file.path) if file.is_dir else file.file_size or 0
        for file in repository.list_artifacts(folder)
    )


def _delete_files(client: MlflowClient, model: StoredModel) -> None:
    hint = "grant permission to delete them, or delete them yourself, then run clean again"
    if model.model_id not in model.location:
        raise StoreError(f"{model.location} holds more than the files of {model.name}", hint)
    repository = _repository(client, model.location)
    try:
        repository.delete_artifacts()
        left = repository.list_artifacts()
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"the files in {model.location} cannot be deleted: {error}", hint
        ) from error
    if left:
        raise StoreError(f"MLflow did not delete the files in {model.location}", hint)


def _trials_and_studies(client: MlflowClient, experiments: list[str]) -> dict[str, Run]:
    """Find the runs of trials and studies, deleted ones included, by their ids."""
    found = store.every(
        lambda token: client.search_runs(
            experiments, "tags.`optuna.study` LIKE '%'", ViewType.ALL, 1000, page_token=token
        )
    )
    return {run.info.run_id: run for run in found}
