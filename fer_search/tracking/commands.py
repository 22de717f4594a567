"""Name, tag and describe the run that `mlflow run` opens for a command other than a search."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient

from fer_search.tracking import store
from fer_search.tracking.logged_run import LoggedRun


def record(client: MlflowClient, command: str, title: str, tags: Mapping[str, str]) -> None:
    """Record on a command's run what it did or is doing; do nothing if there is no run.

    Args:
        client: Client of the tracking store.
        command: Name of the command.
        title: Name of the run in the tracking UI.
        tags: Further tags.
    """
    if store.has_run_to_adopt():
        run = LoggedRun(client, store.begin_run(client, title, {}))
        run.set_tags({"fer.command": command} | dict(tags))
        run.end("FINISHED")


def explain(command: str, message: str) -> None:
    """Record on a command's run why it was refused; do nothing if there is no run.

    The run ends as FAILED, as `mlflow run` itself would end it.

    Args:
        command: Name of the command.
        message: Message that the user was shown.
    """
    if store.has_run_to_adopt():
        client = store.connect()
        run = LoggedRun(client, store.begin_run(client, f"{command}, refused", {}))
        run.set_tags({"fer.command": command, "refused": message[:5000]})
        run.describe(f"**Refused:** {message}")
        run.end("FAILED")
