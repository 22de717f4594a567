"""Studies in Optuna's storage: open the storage, find a study there, create a new one.

`study.py` defines what a study is and does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import sqlalchemy

from fer_search.config import AUTO, SearchConfig
from fer_search.errors import StoreError
from fer_search.study.hyperparameters import fingerprint
from fer_search.study.space import declare, known_good
from fer_search.study.study import RECORD, Study

KNOWN = "known-good"
"""Origin of the points of `space.KNOWN_GOOD`."""
Points = Sequence[tuple[str, Mapping[str, Any]]]
"""Points to try first, each preceded by its origin."""

_MAKING_SECONDS = 10.0
"""How long another search may take from creating a study to writing its record."""

RDBStorage = optuna.storages.RDBStorage

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str) -> RDBStorage:
    """Open the database that holds studies, creating its tables if it is new.

    Raises:
        StoreError: If it cannot be reached or written, or is of another Optuna version.
    """
    is_sqlite = url.startswith("sqlite")
    options = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(
            f"storage={url} cannot be opened: {reason}",
            hint="check that the folder or server exists and is writable",
        ) from error


def find_study(storage: RDBStorage, name: str) -> Study | None:
    """Open the study called `name`, or return None if there is none.

    Raises:
        StoreError: If another program made the study of this name.
    """
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    record = study.user_attrs.get(RECORD)
    if record is None and study.get_trials(deepcopy=False):
        raise StoreError(
            f"study={name} exists in this storage, but fer_search did not create it",
            hint="choose another name with study=…",
        )
    return Study(storage, study, record) if record else None


def study_names(storage: RDBStorage) -> list[str]:
    """List the names of all studies in a storage."""
    return optuna.get_all_study_names(storage)


def existing_study(url: str, name: str) -> Study:
    """Open a study that must exist.

    Args:
        url: URL of the storage.
        name: Name of the study.

    Raises:
        StoreError: If there is no such study in this storage, or another program made it.
    """
    storage = open_storage(url)
    study = find_study(storage, name)
    if study is None:
        known = study_names(storage)
        raise StoreError(
            f"there is no study {name!r} in {url}",
            hint=f"known there: {', '.join(known)}"
            if known
            else "it has no studies; start one with the search command, or set another storage=…",
        )
    return study


def create_study(
    storage: RDBStorage,
    search: SearchConfig,
    facts: Mapping[str, Any],
    first: Points = (),
) -> Study:
    """Create a study and enqueue its first trials.

    Args:
        storage: Storage in which to create it.
        search: Its settings, with a name and resolved image sizes; `sampler=auto` is resolved here.
        facts: Facts that must be the same on resume or that workers need: digests, the study run.
        first: Points to try before the known-good ones.

    Raises:
        StoreError: If another search has created it.
    """
    points = [*first, *((KNOWN, point) for point in known_good(search))]
    if search.sampler == AUTO:
        search = search.model_copy(update={"sampler": "mutation" if points else "tpe"})
    record = dict(facts) | {
        "search": search.to_params(),
        "opened": time.time(),
        "space": fingerprint(declare(search)),
        "first": points,
    }
    try:
        study = optuna.create_study(study_name=search.study, storage=storage, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        study = _abandoned(storage, search.study)
    study.set_user_attr(RECORD, record)
    if study.user_attrs[RECORD]["run_id"] != record["run_id"]:
        raise _made_by_another(search.study)
    made = Study(storage, study, record)
    made.enqueue_first()
    return made


def _abandoned(storage: RDBStorage, name: str) -> optuna.Study:
    """Load a study whose creator was killed before it wrote the study's record.

    Raises:
        StoreError: If the creator has written it.
    """
    study = optuna.load_study(study_name=name, storage=storage)
    until = time.monotonic() + _MAKING_SECONDS
    while RECORD not in study.user_attrs:
        if time.monotonic() > until:
            return study
        time.sleep(0.1)
    raise _made_by_another(name)


def _made_by_another(name: str) -> StoreError:
    return StoreError(
        f"study={name} was just created by another search",
        hint="run the same command again to resume it, or set another study=…",
    )
