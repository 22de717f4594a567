"""The model registry: versions of trials' models, and the aliases that say which one is in use.

`challenger` is the best model of the newest study, `champion` the one that was promoted,
`previous` the champion before it.

A promotion is one write: the alias `champion`. Before it, the version is tagged with the champion
that it replaces; `previous` always follows from that tag, so whoever comes after a kill, or after
two promotions at once, can set it right (`repair`).

MLflow can not say "delete this version unless an alias points at it". So whoever deletes puts
`REMOVING` on the logged model first and then looks for aliases, and `crown` moves the alias first
and then looks for `REMOVING`: at least one of the two sees the other.
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

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
REMOVING = "fer.removing"
"""Tag of a logged model that is about to be deleted: when and why."""
_REPLACED = "promotion.replaced"
"""Tag of a version: the champion before it; empty if it was the first."""
_STAGES_IN_USE = ("Staging", "Production")
_MISSING = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
"""What MLflow answers if it has no such model, version or alias."""


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
    if known:  # by an earlier call, perhaps cut short, or by hand
        missing = {key: tags[key] for key in tags.keys() - known[0].tags.keys()}
        tag(client, name, known[0].version, missing)
        return str(known[0].version)
    version = client.create_model_version(
        name, f"models:/{model_id}", run_id=run_id, tags=dict(tags), model_id=model_id
    )
    return str(version.version)


def challenge(client: MlflowClient, name: str, version: str) -> None:
    """Point the alias `challenger` at a version."""
    _point(client, name, CHALLENGER, version)


def find(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Find a version by its number or by an alias.

    Raises:
        StoreError: If there is no such model, version or alias.
    """
    if version.isdigit():
        found = _by_number(client, name, version)
    else:
        found = by_alias(client, name, version)
    if found is None:
        known = client.search_model_versions(f"name = '{name}'")
        numbers = ", ".join(sorted((str(each.version) for each in known), key=int)) or "none"
        wanted = f"version {version}" if version.isdigit() else f"alias {version!r}"
        raise StoreError(
            f"the registered model {name!r} has no {wanted}; versions: {numbers}",
            hint="name one of these versions, or another registered_model=…, or run a search",
        )
    return found


def by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Find the version that an alias points at; None if there is none."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        return None


def crown(client: MlflowClient, name: str, version: str, beaten: str | None = None) -> None:
    """Make a version the champion, and the champion before it `previous`.

    Args:
        client: Of the store.
        name: In the registry.
        version: Its number.
        beaten: Number of the champion that it was compared with, empty if there was none; None
            replaces whichever is the champion.

    Raises:
        StoreError: If another version has become the champion, or if the version is gone or being
            deleted; the champion is the one before then.
    """
    before = by_alias(client, name, CHAMPION)
    now = str(before.version) if before else ""
    if beaten is not None and now not in (beaten, version):
        raise StoreError(
            f"the champion of {name!r} was {beaten or 'nobody'} and is version {now or 'none'} now",
            hint="promote again, to be compared with that one",
        )
    if before is None or str(before.version) != version:
        replaced = str(before.version) if before else ""
        if not _is_crowned(client, name, version, replaced):
            if before:
                _point(client, name, CHAMPION, replaced)
            else:
                client.delete_registered_model_alias(name, CHAMPION)
            raise StoreError(
                f"version {version} of {name!r} is gone, or the command clean is deleting it",
                hint="promote another version=…; if clean was stopped, run it again: it ends what "
                "it began, or takes it back",
            )
    repair(client, name)


def champions(client: MlflowClient, name: str) -> tuple[ModelVersion, ModelVersion]:
    """Find the champion and the one before it.

    Raises:
        StoreError: If there is no champion, or none before it.
    """
    champion = find(client, name, CHAMPION)
    before = _replaced(client, name, champion)
    if before is None:
        raise StoreError(
            f"version {champion.version} of {name!r} is the first champion: there is none to go "
            "back to",
            hint=f"promote another version=…, or delete the alias {CHAMPION!r} in the MLflow UI",
        )
    return champion, before


def restore(client: MlflowClient, name: str, version: str) -> None:
    """Make a former champion the champion again; `previous` is the one that it had replaced."""
    _point(client, name, CHAMPION, version)
    repair(client, name)


def repair(client: MlflowClient, name: str) -> None:
    """Let `previous` point at the version that the champion replaced, if there is one."""
    champion, now = by_alias(client, name, CHAMPION), by_alias(client, name, PREVIOUS)
    before = _replaced(client, name, champion) if champion else None
    if before and (now is None or now.version != before.version):
        _point(client, name, PREVIOUS, before.version)
    elif now and before is None:
        client.delete_registered_model_alias(name, PREVIOUS)


def versions(client: MlflowClient, condition: str | None = None) -> list[Version]:
    """List the versions of all registered models, with the aliases that point at them.

    Args:
        client: Of the store.
        condition: Of MLflow's search; None for all.
    """
    found = list(
        store.every(lambda token: client.search_model_versions(condition, page_token=token))
    )
    aliases = {  # a search tells none
        name: client.get_registered_model(name).aliases for name in {each.name for each in found}
    }
    return [_version(client, each, aliases[each.name]) for each in found]


def versions_of(client: MlflowClient, model_id: str, run_id: str) -> list[Version]:
    """List the versions that load a logged model of a run."""
    conditions = (
        f"source_path LIKE '%{model_id}%'",
        f"run_id = '{run_id}'",
        f"source_path LIKE 'runs:/{run_id}/%'",
        "source_path LIKE 'models:/%/%'",  # other versions, whichever they load
    )
    found = {str(each): each for one in conditions for each in versions(client, one)}
    return [each for each in found.values() if each.loads(model_id, run_id)]


def delete(client: MlflowClient, version: Version) -> None:
    """Delete a version, unless it is gone already."""
    try:
        client.delete_model_version(version.name, version.number)
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise


def tag(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Tag a version."""
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


def describe(client: MlflowClient, name: str, version: str, description: str) -> None:
    """Write on a version what people shall know about it, in Markdown."""
    client.update_model_version(name, version, description)


def _point(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Set an alias; where two make it at once, MLflow lets one fail, which tries again."""
    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException:
        client.set_registered_model_alias(name, alias, version)


def _is_crowned(client: MlflowClient, name: str, version: str, replaced: str) -> bool:
    """Make a version the champion, and tell whether it will stay."""
    try:
        client.set_model_version_tag(name, version, _REPLACED, replaced)
        _point(client, name, CHAMPION, version)
        champion = client.get_model_version_by_alias(name, CHAMPION)
        model_id = str(champion.source).removeprefix("models:/")
        return REMOVING not in client.get_logged_model(model_id).tags
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        return False


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
    """Where the files of a version are that was made of another one (`models:/NAME/N`)."""
    kind, _, address = str(version.source).partition(":/")
    if kind != "models" or "/" not in address:
        return ""
    try:
        return str(client.get_model_version_download_uri(version.name, version.version))
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        return ""


def _replaced(client: MlflowClient, name: str, champion: ModelVersion) -> ModelVersion | None:
    if _REPLACED not in champion.tags:  # made the champion by other hands
        return by_alias(client, name, PREVIOUS)
    number = champion.tags[_REPLACED]
    return _by_number(client, name, number) if number else None


def _by_number(client: MlflowClient, name: str, version: str) -> ModelVersion | None:
    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
        return None
