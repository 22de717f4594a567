"""MLflow's store: open it, and find or make the run that a command belongs to.

Runs are addressed by id everywhere in this package; there is never an active run, so threads and
processes cannot log into each other's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from fer_search.errors import StoreError
from fer_search.tracking.outage import is_full, is_outage

DEFAULT_EXPERIMENT = "0"
Client, StoreException = MlflowClient, MlflowException
_KIND = "mlflow.experimentKind"

for _chatty in ("mlflow.system_metrics", "mlflow.store", "alembic"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)


def connect() -> MlflowClient:
    """Open the tracking store that the environment names, `sqlite:///mlflow.db` if it names none.

    Raises:
        StoreError: If it cannot be opened or reached.
    """
    uri = mlflow.get_tracking_uri()
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"MLflow's store {uri} cannot be opened: {str(error).strip().splitlines()[0]}",
            hint="check MLFLOW_TRACKING_URI and that its server runs or its folder can be written",
        ) from error
    return client


def begin_run(client: MlflowClient, name: str, parameters: Mapping[str, str]) -> Run:
    """Adopt the run that `mlflow run` opened for this process, or make one.

    The run's id is removed from the environment, so that no child process adopts it again.

    Args:
        client: Client of the tracking store.
        name: Name of the run in the tracking UI.
        parameters: Parameters to log, unless `mlflow run` has logged them already.

    Raises:
        StoreError: If the environment names a run that this store does not hold; or as
            `experiment`.
    """
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    if run_id is None:
        run = client.create_run(experiment(client), run_name=name)
    else:
        run = _adopted(client, run_id, name)
    _show_as_training(client, run.info.experiment_id)
    for key, value in parameters.items():
        if key not in run.data.params:
            client.log_param(run.info.run_id, key, value)
    return run


def _adopted(client: MlflowClient, run_id: str, name: str) -> Run:
    """Give a run that `mlflow run` opened its name.

    Raises:
        StoreError: If the store does not hold it.
    """
    try:
        client.update_run(run_id, status="RUNNING", name=name)
        return client.get_run(run_id)
    except MlflowException as error:
        if is_outage(error) or is_full(error):
            raise
        raise StoreError(
            f"run {run_id} is not in {client.tracking_uri}",
            hint="set MLFLOW_TRACKING_URI to an absolute address, or unset it",
        ) from error


def experiment(client: MlflowClient) -> str:
    """Find or create the experiment that MLflow's own environment variables name.

    Returns:
        Its ID.

    Raises:
        StoreError: If it was deleted, or there is none with this ID.
    """
    number, name = map(os.environ.get, ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"))
    try:
        if number is None and name is not None:
            found = client.get_experiment_by_name(name)
            if found is None:
                return str(client.create_experiment(name))
        else:
            found = client.get_experiment(number or DEFAULT_EXPERIMENT)
    except MlflowException as error:
        if is_outage(error) or is_full(error):
            raise
        raise StoreError(
            f"experiment {number or name or DEFAULT_EXPERIMENT} is not in {client.tracking_uri}",
            hint="check MLFLOW_EXPERIMENT_ID and MLFLOW_EXPERIMENT_NAME",
        ) from error
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"experiment {found.name!r} in {client.tracking_uri} was deleted",
            hint=f"`mlflow experiments restore -x {found.experiment_id}`, or name another one "
            "with MLFLOW_EXPERIMENT_NAME",
        )
    return str(found.experiment_id)


def has_run_to_adopt() -> bool:
    """Tell whether `mlflow run` opened a run for this process that nobody has adopted yet."""
    return "MLFLOW_RUN_ID" in os.environ


def holds(client: MlflowClient, run_id: str) -> bool:
    """Tell whether the store has this run and it is not deleted."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def every(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Iterate over all results of a search, page by page.

    Args:
        search: Returns MLflow's page for a token, which is None for the first page.
    """
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def address(client: MlflowClient) -> str:
    """Say how to look at the store: a web address, or the command that serves it."""
    uri: str = client.tracking_uri
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def _show_as_training(client: MlflowClient, experiment_id: str) -> None:
    """Make the UI open an experiment of unknown kind on its runs, not on its GenAI pages."""
    if _KIND not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, _KIND, "custom_model_development")
