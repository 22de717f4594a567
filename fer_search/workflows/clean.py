"""Show how much space the stored models take, and delete those that nothing needs.

`retention.plan` decides and `tracking.models` deletes, one model after the other, so that a call
after a kill goes on where the previous one stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from fer_search.command_config import CleanConfig
from fer_search.config import AUTO
from fer_search.errors import StoreError
from fer_search.invocation import Invocation
from fer_search.progress import console, say
from fer_search.retention import StoredModel, Verdict, doomed, plan
from fer_search.terminal_tables import stored_models
from fer_search.tracking import aliases, models, store
from fer_search.tracking.logged_run import LoggedRun


def clean(config: CleanConfig, invocation: Invocation) -> None:
    """Show what becomes of every stored model and, with `config.apply`, delete those that go.

    Raises:
        StoreError: If there is no such study, or files cannot be deleted.
        KeyboardInterrupt: If told to stop; the next call goes on.
    """
    client = store.connect()
    with _run(client, config) as run:
        study = None if config.study == AUTO else config.study
        verdicts = plan(models.inventory(client, study), config)
        _show(verdicts)
        if run:
            run.log_json([_entry(verdict) for verdict in doomed(verdicts)], "plan.json")
        if run and config.apply:
            _carry_out(client, run, verdicts, config)
        else:
            _say_what_next(verdicts, config, invocation)


def _show(verdicts: Sequence[Verdict]) -> None:
    for (_, study), group in groupby(verdicts, lambda v: (v.model.study_run_id, v.model.study)):
        title = f"Study {study}" if study else "Not made by a search"
        console.print(stored_models(title, list(group)), soft_wrap=False)
    going = [verdict.model for verdict in doomed(verdicts)]
    say(f"{_sum(going)} of {_sum([verdict.model for verdict in verdicts])} can be deleted.")


def _say_what_next(
    verdicts: Sequence[Verdict], config: CleanConfig, invocation: Invocation
) -> None:
    """Say how to delete what goes, and what else could go."""
    asked, default = config.to_params(), CleanConfig().to_params()
    given = {name: value for name, value in asked.items() if value != default[name]}
    going = doomed(verdicts)
    if going:
        say("Nothing was deleted. To delete:")
        say(f"  {invocation.command('clean', **given | {'apply': 'true'})}")
    if not config.versions:
        found = [verdict.model for verdict in verdicts]
        more = doomed(plan(found, config.model_copy(update={"versions": True})))
        registered = [verdict.model for verdict in more[len(going) :]]
        if registered:
            say(
                f"{_sum(registered)} more, registered without an alias, can be deleted with "
                "versions=true."
            )


def _carry_out(
    client: store.Client, run: LoggedRun, verdicts: Sequence[Verdict], config: CleanConfig
) -> None:
    """Delete what goes, unregistered models first, and unmark models that stay after all.

    Raises:
        StoreError: If files cannot be deleted. Before anything was deleted, this ends the command,
            so that a store that deletes nothing keeps its versions; later, the others are still
            deleted first.
    """
    for name in {v.name for each in verdicts for v in each.model.versions if v.is_ours}:
        aliases.repair(client, name)
    for verdict in verdicts:
        if verdict.model.begun and verdict.model.versions and not verdict.goes:
            models.restore(client, verdict.model)
    deleted: list[StoredModel] = []
    failed: list[StoreError] = []
    for verdict in doomed(verdicts):
        model = verdict.model
        name = f"{model.name} of study {model.study}"
        try:
            needed = models.delete(client, model, versions=config.versions, why=verdict.why)
        except (StoreError, store.StoreException) as error:
            if not models.is_listed(client, model.model_id):
                say(f"{name} was already deleted by someone else")
                continue
            if not (deleted and isinstance(error, StoreError)):
                raise
            failed.append(error)
            say(f"{name} was not deleted: {error.message}")
            continue
        if needed:
            say(f"{name} is kept: {needed}")
            continue
        deleted.append(model)
        say(f"deleted {name}, {model.megabytes:.1f} MB")
    freed = sum(model.size for model in deleted) / 1e6
    values = {"models_deleted": len(deleted), "megabytes_freed": freed}
    run.log_metrics(values, step=0, at=time.time())
    say(f"{_sum(deleted)} deleted.")
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _run(client: store.Client, config: CleanConfig) -> Iterator[LoggedRun | None]:
    """Yield a run to record deletions; None for a dry run, unless `mlflow run` opened one."""
    if not (config.apply or store.has_run_to_adopt()):
        yield None
        return
    run = LoggedRun(client, store.begin_run(client, "clean", config.to_params()))
    run.set_tags({"fer.command": "clean"})
    try:
        yield run
    except BaseException as error:
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.end("FINISHED")


def _entry(verdict: Verdict) -> dict[str, Any]:
    model = verdict.model
    return {
        "model_id": model.model_id,
        "study": model.study,
        "trial": model.trial,
        "val_macro_f1": model.score,
        "bytes": model.size,
        "versions": [str(version) for version in model.versions],
        "why": verdict.why,
    }


def _sum(found: Sequence[StoredModel]) -> str:
    megabytes = sum(model.size for model in found) / 1e6
    return f"{len(found)} model{'s' * (len(found) != 1)} ({megabytes:.1f} MB)"
