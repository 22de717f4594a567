"""The run that `mlflow run` opens for a command other than a search: named, tagged, explained."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient

from fer_search.tracking import store
from fer_search.tracking.logged_run import LoggedRun


def record(client: MlflowClient, command: str, title: str, tags: Mapping[str, str]) -> None:
    """Say on the run of a command what it did, or does; do nothing if there is no run.

    Args:
        client: Of the store.
        command: Its name.
        title: What the tracking UI shall call the run.
        tags: More tags.
    """
    if store.has_run_to_adopt():
        run = LoggedRun(client, store.begin_run(client, title, {}))
        run.set_tags({"fer.command": command} | dict(tags))
        run.end("FINISHED")


def explain(command: str, message: str) -> None:
    """Say on the run of a command that was refused why; do nothing if there is no run.

    `mlflow run` itself ends the run as FAILED.

    Args:
        command: Its name.
        message: What was said to the person.
    """
    if store.has_run_to_adopt():
        client = store.connect()
        run = LoggedRun(client, store.begin_run(client, f"{command}, refused", {}))
        run.set_tags({"fer.command": command, "refused": message[:5000]})
        run.describe(f"**Refused:** {message}")
        run.end("FAILED")
