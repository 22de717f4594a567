"""The aliases of the registered model, which say what is in use and what may be next.

`challenger` is the best model of the newest study, `champion` the one that was promoted, and
`previous` the champion before it.

A promotion is one write: the alias `champion`. Before it, the version is tagged with the champion
that it replaces. `previous` always follows from that tag, so the next command after a kill, or
after two promotions at once, can set it right (`repair`).

MLflow cannot "delete this version unless an alias points at it". So a deletion first puts
`registry.REMOVING` on the logged model and then looks for aliases, while `set_champion` first moves
the alias and then looks for that tag: at least one of the two sees the other.
"""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from fer_search.errors import StoreError
from fer_search.tracking import registry

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
_REPLACED = "promotion.replaced"
"""Tag of a version: number of the champion before it; empty if it was the first."""


def set_challenger(client: MlflowClient, name: str, version: str) -> None:
    """Point the alias `challenger` at a version."""
    _point(client, name, CHALLENGER, version)


def set_champion(client: MlflowClient, name: str, version: str, beaten: str | None = None) -> None:
    """Make a version the champion, and the champion before it `previous`.

    Args:
        client: Client of the tracking store.
        name: Name of the registered model.
        version: Number of the version.
        beaten: Number of the champion that it was compared with, empty if there was none; None
            replaces any champion.

    Raises:
        StoreError: If another version has become the champion since, or if the version is gone or
            being deleted; the champion then stays as it was.
    """
    before = registry.by_alias(client, name, CHAMPION)
    now = str(before.version) if before else ""
    if beaten is not None and now not in (beaten, version):
        raise StoreError(
            f"the champion of {name!r} is now {_spelled(now)}, not {_spelled(beaten)}",
            hint="promote again to compare with the new one",
        )
    if before is None or str(before.version) != version:
        replaced = str(before.version) if before else ""
        if not _is_set(client, name, version, replaced):
            if before:
                _point(client, name, CHAMPION, replaced)
            else:
                client.delete_registered_model_alias(name, CHAMPION)
            raise StoreError(
                f"version {version} of {name!r} is gone, or is being deleted by clean",
                hint="promote another version=…; if clean was stopped, run it again to "
                "finish or undo the deletion",
            )
    repair(client, name)


def champions(client: MlflowClient, name: str) -> tuple[ModelVersion, ModelVersion]:
    """Find the champion and the one before it.

    Raises:
        StoreError: If there is no champion, or none before it.
    """
    champion = registry.find(client, name, CHAMPION)
    before = _replaced(client, name, champion)
    if before is None:
        raise StoreError(
            f"version {champion.version} of {name!r} is the first champion: there is nothing to "
            "roll back to",
            hint=f"promote another version=…, or delete the alias {CHAMPION!r} in the MLflow UI",
        )
    return champion, before


def restore(client: MlflowClient, name: str, version: str) -> None:
    """Make a former champion the champion again, and the one that it had replaced `previous`."""
    _point(client, name, CHAMPION, version)
    repair(client, name)


def repair(client: MlflowClient, name: str) -> None:
    """Point `previous` at the version that the champion replaced, or remove it if there is none."""
    champion, now = (
        registry.by_alias(client, name, CHAMPION),
        registry.by_alias(client, name, PREVIOUS),
    )
    before = _replaced(client, name, champion) if champion else None
    if before and (now is None or now.version != before.version):
        _point(client, name, PREVIOUS, before.version)
    elif now and before is None:
        client.delete_registered_model_alias(name, PREVIOUS)


def _point(client: MlflowClient, name: str, alias: str, version: str) -> None:
    """Set an alias; if two processes create it at once, MLflow fails one of them, which retries."""
    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException:
        client.set_registered_model_alias(name, alias, version)


def _is_set(client: MlflowClient, name: str, version: str, replaced: str) -> bool:
    """Make a version the champion, and tell whether it can stay so."""
    try:
        client.set_model_version_tag(name, version, _REPLACED, replaced)
        _point(client, name, CHAMPION, version)
        champion = client.get_model_version_by_alias(name, CHAMPION)
        model_id = str(champion.source).removeprefix("models:/")
        return registry.REMOVING not in client.get_logged_model(model_id).tags
    except MlflowException as error:
        if error.error_code not in registry.MISSING:
            raise
        return False


def _replaced(client: MlflowClient, name: str, champion: ModelVersion) -> ModelVersion | None:
    if _REPLACED not in champion.tags:  # made the champion by other means
        return registry.by_alias(client, name, PREVIOUS)
    number = champion.tags[_REPLACED]
    return registry.by_number(client, name, number) if number else None


def _spelled(version: str) -> str:
    return f"version {version}" if version else "none"
