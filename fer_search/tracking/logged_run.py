"""An MLflow run, addressed by its id: what is logged to it, and what is read back.

There is never an active run: every call names its store and its run, so that threads and processes
do not get in each other's way.
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
"""Maximum number of parameters that MLflow accepts in one call."""


class LoggedRun:
    """A run, addressed by its id.

    Args:
        client: Client of the store that holds the run.
        run: The run as the store has it.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.began: float = run.info.start_time / 1000
        """Start time, in seconds since the epoch."""

    @property
    def tags(self) -> dict[str, str]:
        """Current tags in the store."""
        return dict(self.client.get_run(self.run_id).data.tags)

    def log_metrics(self, values: Mapping[str, float], *, step: int, at: float) -> None:
        """Log the metrics of one step; logging them again with the same time changes nothing.

        Args:
            values: Values by name.
            step: Number of the step; epochs count from 1, and 0 stands for the end of a trial.
            at: Time in seconds since the epoch.
        """
        when = int(at * 1000)
        metrics = [Metric(key, float(value), when, step) for key, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; those logged before must have the same values."""
        logged = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(logged), _AT_ONCE):
            self.client.log_batch(self.run_id, params=logged[start : start + _AT_ONCE])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, at most 100 in one call."""
        self.client.log_batch(
            self.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()]
        )

    def log_figures(self, figures: Mapping[str, Any]) -> None:
        """Store matplotlib figures by file name, replacing earlier ones."""
        for name, figure in figures.items():
            self.client.log_figure(self.run_id, figure, name)

    def log_arrays(self, arrays: Mapping[str, np.ndarray], name: str) -> None:
        """Store arrays as an `.npz` file without pickled types, replacing an earlier one."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            np.savez_compressed(file, allow_pickle=False, **arrays)
            self.client.log_artifact(self.run_id, str(file))

    def log_json(self, value: Any, name: str) -> None:
        """Store a value as a JSON file, replacing an earlier one."""
        self.client.log_dict(self.run_id, value, name)

    def log_text(self, text: str, name: str) -> None:
        """Store text as a file, replacing an earlier one."""
        self.client.log_text(self.run_id, text, name)

    def read_json(self, name: str) -> Any:
        """Read a value that `log_json` stored; None if there is no such file."""
        with self._fetched(name) as file:
            return file and json.loads(file.read_text())

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read the arrays that `log_arrays` stored; an empty dict if there is no such file."""
        with self._fetched(name) as file:
            if file is None:
                return {}
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)

    def log_datasets(self, *, name: str, url: str, digests: Mapping[str, str]) -> None:
        """Record data as inputs of this run.

        Args:
            name: Name of the source.
            url: Where to find the data.
            digests: Digest by context, for example `training`; it covers every image and label.
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
        """Record logged models as inputs of this run."""
        self.client.log_inputs(self.run_id, models=[LoggedModelInput(each) for each in model_ids])

    def describe(self, page: str) -> None:
        """Show a page of Markdown as the description of this run in the MLflow UI."""
        self.set_tags({"mlflow.note.content": page})

    def end(self, status: str) -> None:
        """End the run with one of MLflow's statuses, for example FINISHED."""
        self.client.set_terminated(self.run_id, status)

    @contextlib.contextmanager
    def _fetched(self, name: str) -> Iterator[Path | None]:
        """Yield a temporary copy of an artifact, or None if there is no such file."""
        folder = str(Path(name).parent) if "/" in name else None
        if name not in [file.path for file in self.client.list_artifacts(self.run_id, folder)]:
            yield None
            return
        with tempfile.TemporaryDirectory() as copies:
            yield Path(self.client.download_artifacts(self.run_id, name, copies))
