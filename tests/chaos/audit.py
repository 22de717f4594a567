"""Audit of a search that is over: Optuna, MLflow and the disk agree, and nothing is lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import optuna
from arena import STUDY, Arena
from mlflow import MlflowClient
from mlflow.entities import Run

from fer_search.serving.package import load_keras
from fer_search.tracking.models import MODEL_TAG
from fer_search.tracking.runs import STATUS

Trial = optuna.trial.FrozenTrial


def violations(arena: Arena) -> list[str]:
    """List what is wrong with a search that has ended.

    Args:
        arena: The arena of the search; its MLflow server is stopped.
    """
    study = optuna.load_study(study_name=STUDY, storage=arena.storage)
    wanted = int(study.user_attrs["fer_search"]["search"]["trials"])
    mlflow.set_tracking_uri(arena.store)
    client = MlflowClient()
    runs = list(client.search_runs(["0"], max_results=10_000))
    found = [
        *_about_numbers(study.trials, wanted),
        *_about_the_tree(study.trials, runs),
        *_about_the_study_run(study.trials, runs),
        *_about_the_disk(arena.folder / "state"),
        *(f"process {each.pid} lives on: {each.cmdline()}" for each in arena.processes()),
    ]
    for trial in study.trials:
        mine = [run for run in runs if _number(run) == trial.number]
        for run in mine[:1]:
            found += _about_epochs(trial, run, client)
            if trial.state.name == "COMPLETE":
                found += _about_the_model(trial, run, client)
    return found


def _number(run: Run) -> int | None:
    number = run.data.tags.get("optuna.trial_number")
    return None if number is None else int(number)


def _about_numbers(trials: Sequence[Trial], wanted: int) -> Iterator[str]:
    states = Counter(trial.state.name for trial in trials)
    finished = states["COMPLETE"] + states["PRUNED"]
    if finished != wanted:
        yield f"{finished} finished trials, expected {wanted}: {dict(states)}"
    if states["RUNNING"]:
        yield f"{states['RUNNING']} trials are RUNNING, but nothing runs"
    for trial in trials:
        kind = trial.user_attrs.get("failure.kind")
        if trial.state.name == "FAIL" and kind != "killed":
            message = trial.user_attrs.get("failure.message")
            yield f"trial {trial.number} failed without a fault of its own: {kind}, {message}"


def _about_the_tree(trials: Sequence[Trial], runs: Sequence[Run]) -> Iterator[str]:
    by_number = Counter(_number(run) for run in runs)
    for trial in trials:
        n, ended = by_number[trial.number], trial.state.is_finished()
        if n > 1 or (ended and n == 0 and trial.user_attrs.get("failure.kind") != "killed"):
            yield f"trial {trial.number} has {n} runs"
    known = {trial.number: trial for trial in trials}
    for run in runs:
        number = _number(run)
        if run.info.status == "RUNNING":
            yield f"run {run.info.run_name} is RUNNING"
        if number is None:
            continue
        if number not in known:
            yield f"run {run.info.run_name} belongs to no trial"
        elif run.info.status != STATUS[known[number].state.name]:
            yield f"run {run.info.run_name} is {run.info.status}, its trial {known[number].state}"
        elif known[number].user_attrs.get("run_id") not in (run.info.run_id, None):
            yield f"trial {number} names another run than the one that names it"


def _about_the_study_run(trials: Sequence[Trial], runs: Sequence[Run]) -> Iterator[str]:
    tops = [run for run in runs if run.data.tags.get("fer.command") == "search"]
    if len(tops) != 1:
        yield f"{len(tops)} study runs"
        return
    (top,) = tops
    if top.info.status != "FINISHED" or "test_macro_f1" not in top.data.metrics:
        yield f"the study run is {top.info.status}, with {sorted(top.data.metrics)}"
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = max(done, key=lambda trial: (trial.value or 0, -trial.number))
    if top.data.tags.get("best_trial") != str(best.number):
        yield f"best is {top.data.tags.get('best_trial')}, expected {best.number}"


def _about_epochs(trial: Trial, run: Run, client: MlflowClient) -> Iterator[str]:
    """Check that every epoch has each metric once, with the same value in Optuna and MLflow."""
    where = f"trial {trial.number} ({trial.state.name})"
    names = [name for name in run.data.metrics if name.startswith("epoch/")]
    expected = list(range(1, len(trial.intermediate_values) + 1))
    if sorted(trial.intermediate_values) != expected:
        yield f"{where}: Optuna has the epochs {sorted(trial.intermediate_values)}"
    if expected and not names and trial.state.name != "WAITING":
        yield f"{where}: MLflow has no epochs, expected {len(expected)}"
    for name in names:
        history = client.get_metric_history(run.info.run_id, name)
        steps = [metric.step for metric in history]
        if sorted(steps) != sorted(set(steps)):
            yield f"{where}: {name} was logged twice: {steps}"
        if trial.state.name in ("COMPLETE", "PRUNED") and sorted(steps) != expected:
            yield f"{where}: {name} has the epochs {steps}, expected 1 to {len(expected)}"
        if name == "epoch/val_macro_f1":
            for metric in history:
                value = trial.intermediate_values.get(metric.step)
                if value is not None and not math.isclose(value, metric.value, abs_tol=1e-9):
                    yield f"{where}: epoch {metric.step} is {value} and {metric.value}"


def _about_the_model(trial: Trial, run: Run, client: MlflowClient) -> Iterator[str]:
    where, metrics = f"trial {trial.number}", run.data.metrics
    if not math.isclose(metrics.get("val_macro_f1", math.nan), trial.value or 0, abs_tol=1e-9):
        yield f"{where}: value {trial.value}, its run says {metrics.get('val_macro_f1')}"
    versions = client.search_model_versions(f"run_id='{run.info.run_id}'")
    if len(versions) != 1:
        yield f"{where}: {len(versions)} registered versions"
    try:
        load_keras(client, run.data.tags[MODEL_TAG])
    except Exception as error:
        yield f"{where}: its model cannot be loaded: {error!r}"


def _about_the_disk(state: Path) -> Iterator[str]:
    kinds: dict[str, Any] = {
        "checkpoint*": "a checkpoint of an ended trial",
        ".checkpoint*": "a half-written checkpoint",
        ".draft-*": "a half-written trial",
        "trial-*": "a trial that was not delivered",
        "unreadable-*": "a trial that cannot be read",
    }
    for pattern, what in kinds.items():
        for file in state.rglob(pattern):
            yield f"{what} was left: {file.name}"
