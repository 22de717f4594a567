"""The spool: what a finished trial leaves on local disk until Optuna and MLflow have it.

A trial is first written here, whole or not at all (one rename), then told to Optuna and uploaded
from here, then removed. After a kill at any moment, the next start finds either nothing or all it
needs to finish the job. Files are in Keras's format, npz and JSON; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from fer_search.results import EpochMetrics, Evaluation, TrialResult

log = logging.getLogger(__name__)

_MODEL, _ARRAYS, _FACTS = "model.keras", "arrays.npz", "trial.json"
_VIEWS = "probabilities_views"


@dataclasses.dataclass(frozen=True)
class Spooled:
    """A trial in the spool."""

    folder: Path
    number: int
    run_id: str
    """MLflow run of the trial."""
    finished_at: float
    """Seconds since the epoch; the time of its final metrics, however late they are logged."""
    params: dict[str, Any]
    """Hyperparameters by their names in MLflow."""
    result: TrialResult
    images: dict[str, np.ndarray]
    """What the network saw, as `model.preview` gives it; empty for a custom network."""

    @property
    def model(self) -> Path:
        """The inference model as a `.keras` file."""
        return self.folder / _MODEL

    def remove(self) -> None:
        """Remove the trial once all has arrived; others see it whole or not at all meanwhile."""
        gone = self.folder.rename(self.folder.with_name(f".gone-{time.time_ns()}"))
        shutil.rmtree(gone, ignore_errors=True)


def folder_of(study_run_id: str) -> Path:
    """Return the folder where a study's trials wait on this machine; create it if missing."""
    folder = platformdirs.user_state_path("fer_search") / "spool" / study_run_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lock_of(spool: Path, number: int) -> FileLock:
    """Return the lock whose holder may write or deliver the trial."""
    return FileLock(spool / f".trial-{number:03d}.lock")


def checkpoint_of(spool: Path, number: int) -> Path:
    """Return the path of a trial's checkpoint while it trains; see `model.checkpoint`."""
    return spool / f"checkpoint-{number:03d}.npz"


def drop_checkpoints(spool: Path, numbers: Iterable[int]) -> None:
    """Remove the checkpoints of trials that have ended, half-written ones included."""
    for number in numbers:
        for file in spool.glob(f"*{checkpoint_of(spool, number).name}*"):
            file.unlink(missing_ok=True)


def put(
    spool: Path,
    *,
    number: int,
    run_id: str,
    params: Mapping[str, Any],
    result: TrialResult,
    images: dict[str, np.ndarray],
    save_model: Callable[[Path], Any],
) -> Spooled:
    """Write a trial into the spool, whole or not at all.

    Args:
        spool: The study's folder, from `folder_of`.
        number: Number of the trial.
        run_id: MLflow run of the trial.
        params: Hyperparameters of the trial; values that JSON can hold.
        result: Result of the trial.
        images: See `Spooled.images`.
        save_model: Writes the inference model to the path it is given.
    """
    facts = {
        "number": number,
        "run_id": run_id,
        "finished_at": time.time(),
        "params": dict(params),
        "epochs": [dataclasses.asdict(epoch) for epoch in result.epochs],
        "best_epoch": result.best_epoch,
        "train_seconds": result.train_seconds,
        "model_parameters": result.model_parameters,
    }
    draft = Path(tempfile.mkdtemp(prefix=f".draft-{number:03d}-", dir=spool))
    save_model(draft / _MODEL)
    evaluation = result.validation
    arrays: dict[str, Any] = {
        "true_labels": evaluation.labels,
        "probabilities": evaluation.probabilities,
    } | {f"{_VIEWS}{n}": of_views.probabilities for n, of_views in result.views.items()}
    np.savez(draft / _ARRAYS, **arrays | images)
    (draft / _FACTS).write_text(json.dumps(facts))
    place = spool / f"trial-{number:03d}"
    if place.exists():  # an earlier attempt at the same trial, never told: the caller has its lease
        shutil.rmtree(place)
    draft.rename(place)
    return _read(place)


def waiting(spool: Path) -> Iterator[Spooled]:
    """Iterate over the trials that wait in the spool, in order of their folders' names.

    One that cannot be read, for example after a power failure, is set aside with a warning.
    """
    for place in sorted(spool.glob("trial-*")):
        try:
            found = _read(place)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            if not place.exists():  # it has been delivered since
                continue
            aside = place.rename(place.with_name(f"unreadable-{place.name}-{time.time_ns()}"))
            log.warning("%s cannot be read (%s), moved to %s", place, error, aside)
            continue
        yield found


def sweep(spool: Path) -> None:
    """Remove what a kill left of drafts and removals; drafts of live workers are locked."""
    for gone in spool.glob(".gone-*"):
        shutil.rmtree(gone, ignore_errors=True)
    for draft in spool.glob(".draft-*"):
        number = int(draft.name.split("-")[1])
        with contextlib.suppress(Timeout), lock_of(spool, number).acquire(timeout=0):
            shutil.rmtree(draft)


def _read(place: Path) -> Spooled:
    facts = json.loads((place / _FACTS).read_text())
    with np.load(place / _ARRAYS, allow_pickle=False) as file:
        arrays = dict(file)
    labels = arrays.pop("true_labels")
    evaluation = Evaluation(labels, arrays.pop("probabilities"))
    of_views = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_VIEWS)}
    return Spooled(
        folder=place,
        number=facts["number"],
        run_id=facts["run_id"],
        finished_at=facts["finished_at"],
        params=facts["params"],
        result=TrialResult(
            epochs=tuple(EpochMetrics(**epoch) for epoch in facts["epochs"]),
            best_epoch=facts["best_epoch"],
            validation=evaluation,
            views={
                int(name.removeprefix(_VIEWS)): Evaluation(labels, probabilities)
                for name, probabilities in of_views.items()
            },
            train_seconds=facts["train_seconds"],
            model_parameters=facts["model_parameters"],
        ),
        images=arrays,
    )
