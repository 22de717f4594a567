"""The model registry: find, create, describe and delete versions of trials' models.

The aliases that say which one is in use are in `aliases.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)

from fer_search.errors import StoreError
from fer_search.retention import Version
from fer_search.tracking import store

REMOVING = "fer.removing"
"""Tag of a logged model that is about to be deleted: when and why."""
_STAGES_IN_USE = ("Staging", "Production")
MISSING = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
"""Error codes of MLflow if it has no such model, version or alias."""


def register(
    client: MlflowClient, name: str, *, model_id: str, run_id: str, tags: Mapping[str, str]
) -> str:
    """Make a logged model a version of the registered model `name`, unless it is one already.

    Args:
        client: Client of the tracking store.
        name: Name of the registered model, which is created if it is new.
        model_id: Id of the logged model.
        run_id: Id of the run that trained it.
        tags: Tags of the version.

    Returns:
        The number of the version.
    """
    try:
        client.create_registered_model(
            name, description="Facial emotion recognition models from fer_search."
        )
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    known = client.search_model_versions(f"name = '{name}' AND run_id = '{run_id}'")
    if known:  # by an earlier call, perhaps cut short, or by hand
        missing = {key: tags[key] for key in tags.keys() - known[0].tags.keys()}
        tag(client, name, known[0].version, missing)
        return str(known[0].version)
    version = client.create_model_version(
        name, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id
    )
    return str(version.version)


def find(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Find a version by its number or by an alias.

    Raises:
        StoreError: If there is no such model, version or alias.
    """
    if version.isdigit():
        found = by_number(client, name, version)
    else:
        found = by_alias(client, name, version)
    if found is None:
        known = client.search_model_versions(f"name = '{name}'")
        if not known:
            others = [m.name for m in client.search_registered_models() if m.name != name]
            names = ", ".join(others) or "none"
            raise StoreError(
                f"no registered model {name!r} with versions; other models: {names}",
                hint="run a search, which registers versions, or choose another registered_model=…",
            )
        numbers = ", ".join(sorted((str(each.version) for each in known), key=int))
        wanted = f"version {version}" if version.isdigit() else f"alias {version!r}"
        raise StoreError(
            f"the registered model {name!r} has no {wanted}; versions: {numbers}",
            hint="name one of these versions, or another registered_model=…",
        )
    return found


def by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Find the version that an alias points at; None if there is none."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return None


def versions(client: MlflowClient, condition: str | None = None) -> list[Version]:
    """List the versions of all registered models, with the aliases that point at them.

    Args:
        client: Client of the tracking store.
        condition: Filter for MLflow's search; None for all versions.
    """
    found = list(
        store.every(lambda token: client.search_model_versions(condition, page_token=token))
    )
    aliases = {  # a search returns none
        name: client.get_registered_model(name).aliases for name in {each.name for each in found}
    }
    return [_version(client, each, aliases[each.name]) for each in found]


def versions_of(client: MlflowClient, model_id: str, run_id: str) -> list[Version]:
    """List the versions that load a logged model of a run."""
    conditions = (
        f"source_path LIKE '%{model_id}%'",
        f"run_id = '{run_id}'",
        f"source_path LIKE 'runs:/{run_id}/%'",
        "source_path LIKE 'models:/%/%'",  # other versions, whatever they load
    )
    found = {str(each): each for one in conditions for each in versions(client, one)}
    return [each for each in found.values() if each.loads(model_id, run_id)]


def delete(client: MlflowClient, version: Version) -> None:
    """Delete a version, unless it is gone already."""
    try:
        client.delete_model_version(version.name, version.number)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise


def tag(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Tag a version."""
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


def describe(client: MlflowClient, name: str, version: str, description: str) -> None:
    """Set the description of a version, in Markdown."""
    client.update_model_version(name, version, description)


def _version(client: MlflowClient, version: ModelVersion, aliases: Mapping[str, str]) -> Version:
    uses = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
    if version.current_stage in _STAGES_IN_USE:
        uses.append(version.current_stage)
    return Version(
        name=version.name,
        number=str(version.version),
        source=str(version.source),
        run_id=version.run_id or "",
        study=version.tags.get("study", ""),
        uses=tuple(uses),
        location=_location(client, version),
    )


def _location(client: MlflowClient, version: ModelVersion) -> str:
    """Locate the files of a version made from another one (`models:/NAME/N`); else empty."""
    kind, _, address = str(version.source).partition(":/")
    if kind != "models" or "/" not in address:
        return ""
    try:
        return str(client.get_model_version_download_uri(version.name, version.version))
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return ""


def by_number(client: MlflowClient, name: str, version: str) -> ModelVersion | None:
    """Find a version by its number; None if there is none."""
    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return None
