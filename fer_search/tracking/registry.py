"""The model registry: versions of trials' models, and the aliases that say which one is in use.

`challenger` is the best model of the newest study, `champion` the one that was promoted,
`previous` the champion before it.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from fer_search.errors import StoreError

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"


def register(
    client: MlflowClient, name: str, *, model_id: str, run_id: str, tags: Mapping[str, str]
) -> str:
    """Make a logged model a version of the registered model `name`, unless it is one already.

    Args:
        client: Of the store.
        name: In the registry; made if it is new.
        model_id: Of the logged model.
        run_id: That trained it.
        tags: Of the version.

    Returns:
        The number of the version.
    """
    try:
        client.create_registered_model(
            name, description="Facial emotion recognition, searched by fer_search."
        )
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    known = client.search_model_versions(f"name = '{name}' AND run_id = '{run_id}'")
    if known:
        return str(known[0].version)
    version = client.create_model_version(
        name, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id
    )
    return str(version.version)


def challenge(client: MlflowClient, name: str, version: str) -> None:
    """Point the alias `challenger` at a version."""
    client.set_registered_model_alias(name, CHALLENGER, version)


def promote(
    client: MlflowClient, name: str, version: str | None, reason: str
) -> tuple[ModelVersion, ModelVersion | None]:
    """Make a version the champion and remember the one before it.

    Args:
        client: Of the store.
        name: In the registry.
        version: Which; None for the challenger.
        reason: Kept as a tag of the version.

    Returns:
        The champion, and the champion before if it was another version.

    Raises:
        StoreError: If there is no such model, version or challenger.
    """
    promoted = _version(client, name, version)
    before = _by_alias(client, name, CHAMPION)
    client.set_model_version_tag(name, promoted.version, "promotion", reason)
    if before and before.version != promoted.version:
        client.set_registered_model_alias(name, PREVIOUS, before.version)
    client.set_registered_model_alias(name, CHAMPION, promoted.version)
    return promoted, before if before and before.version != promoted.version else None


def _version(client: MlflowClient, name: str, version: str | None) -> ModelVersion:
    found = _by_alias(client, name, CHALLENGER) if version is None else None
    try:
        found = found or (client.get_model_version(name, version) if version else None)
    except MlflowException:
        found = None
    if found is None:
        known = client.search_model_versions(f"name = '{name}'")
        numbers = ", ".join(sorted((str(each.version) for each in known), key=int)) or "none"
        wanted = f"version {version}" if version else f"alias {CHALLENGER!r}"
        raise StoreError(
            f"the registered model {name!r} has no {wanted}; versions: {numbers}",
            hint="name one of these versions, or another registered_model=…, or run a search",
        )
    return found


def _by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None
