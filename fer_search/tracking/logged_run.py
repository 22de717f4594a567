"""A run of MLflow, addressed by its id: what is logged to it, and what is read back.

No run is active and none is made so: every call names its store and its run, so that threads and
processes do not get into each other's way.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    Metric,
    Param,
    Run,
    RunTag,
)

_AT_ONCE = 100
"""Most parameters that MLflow takes in one call."""


class LoggedRun:
    """A run, addressed by its id.

    Args:
        client: Of the store that holds it.
        run: As the store has it.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.began: float = run.info.start_time / 1000
        """In seconds since the epoch."""

    @property
    def tags(self) -> dict[str, str]:
        """As they stand in the store now."""
        return dict(self.client.get_run(self.run_id).data.tags)

    def log_metrics(self, values: Mapping[str, float], *, step: int, at: float) -> None:
        """Log metrics of one step; logging the same again (same time too) changes nothing.

        Args:
            values: By name.
            step: Epochs count from 1; 0 stands for the end of a trial.
            at: Seconds since the epoch.
        """
        when = int(at * 1000)
        metrics = [Metric(key, float(value), when, step) for key, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; those that are logged already must have the same values."""
        logged = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(logged), _AT_ONCE):
            self.client.log_batch(self.run_id, params=logged[start : start + _AT_ONCE])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, at most 100 at a time."""
        self.client.log_batch(
            self.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()]
        )

    def log_figures(self, figures: Mapping[str, Any]) -> None:
        """Store matplotlib figures by file name, replacing earlier ones."""
        for name, figure in figures.items():
            self.client.log_figure(self.run_id, figure, name)

    def log_arrays(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        """Store arrays, without pickled types, as an `.npz` file, replacing an earlier one."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            np.savez_compressed(file, allow_pickle=False, **arrays)
            self.client.log_artifact(self.run_id, str(file))

    def log_json(self, value: Any, name: str) -> None:
        """Store a value as a JSON file, replacing an earlier one."""
        self.client.log_dict(self.run_id, value, name)

    def log_text(self, text: str, name: str) -> None:
        """Store a text as a file, replacing an earlier one."""
        self.client.log_text(self.run_id, text, name)

    def read_json(self, name: str) -> Any:
        """Read a value that `log_json` stored; None if there is no such file."""
        with self._fetched(name) as file:
            return file and json.loads(file.read_text())

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read what `log_arrays` stored; nothing if there is no such file."""
        with self._fetched(name) as file:
            if file is None:
                return {}
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)

    def log_datasets(self, *, name: str, url: str, digests: Mapping[str, str]) -> None:
        """Name the data as inputs of this run.

        Args:
            name: Of the source.
            url: Where a person finds the data.
            digests: Digest by context, e.g. `training`; it covers every picture and label.
        """
        inputs = [
            DatasetInput(
                Dataset(f"{name}-{context}", digest, "http", f'{{"url": "{url}"}}'),
                [InputTag("mlflow.data.context", context)],
            )
            for context, digest in digests.items()
        ]
        self.client.log_inputs(self.run_id, inputs)

    def log_models(self, model_ids: Sequence[str]) -> None:
        """Name logged models as inputs of this run."""
        self.client.log_inputs(self.run_id, models=[LoggedModelInput(each) for each in model_ids])

    def describe(self, page: str) -> None:
        """Show a page of Markdown as the description of this run in the MLflow UI."""
        self.set_tags({"mlflow.note.content": page})

    def end(self, status: str) -> None:
        """End with one of MLflow's statuses, e.g. FINISHED."""
        self.client.set_terminated(self.run_id, status)

    @contextlib.contextmanager
    def _fetched(self, name: str) -> Iterator[Path | None]:
        """A copy of an artifact while the context lasts, None if there is no such file."""
        folder = str(Path(name).parent) if "/" in name else None
        if name not in [file.path for file in self.client.list_artifacts(self.run_id, folder)]:
            yield None
            return
        with tempfile.TemporaryDirectory() as copies:
            yield Path(self.client.download_artifacts(self.run_id, name, copies))
