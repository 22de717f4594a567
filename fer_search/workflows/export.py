"""Export a model of the registry to another format, and keep it only if it answers the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fer_search import runtime
from fer_search.command_config import ExportConfig
from fer_search.config import SearchConfig
from fer_search.data.images import scaled
from fer_search.data.preparation import prepare
from fer_search.data.synthetic import draw
from fer_search.errors import DataError, ExportFailed, FerSearchError, InputError
from fer_search.progress import say
from fer_search.serving import formats
from fer_search.serving.evaluation import milliseconds_in_turn
from fer_search.serving.package import load_predictor
from fer_search.tracking import commands, store
from fer_search.tracking.runs import study_run_of

_FACES = 256
"""Maximum number of faces on which the two are compared."""


def export(config: ExportConfig) -> None:
    """Export a model.

    Raises:
        StoreError: If there is no such model.
        DataError: If `output` cannot be written.
        ExportFailed: If the model cannot be converted, or a probability differs by more than
            `tolerance`.
    """
    client, target = store.connect(), Path(config.output)
    if target.is_dir():
        raise DataError(f"output={target} is a folder", hint="name a file in it")
    runtime.configure("float32")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise DataError(f"output={target} cannot be written: {error.strerror}") from error
    with folder:
        predictor, run_id = load_predictor(config.model)
        images, kind = _faces(client, run_id)
        half = Path(folder.name, f"model.{config.format}")
        run = _converted(predictor.model, config.format, half)
        faces = scaled(images, predictor.size)[..., np.newaxis]
        difference = float(np.abs(run(faces) - predictor.model.predict_on_batch(faces)).max())
        said = f"on {len(faces)} {kind} no probability differs by more than {difference:.2g}"
        if not difference <= config.tolerance:
            raise ExportFailed(
                f"{target} was not written: {said}; allowed: {config.tolerance:g}",
                hint="try the other format, or allow more with tolerance=…",
            )
        timed = {"Keras": predictor.model.predict_on_batch, config.format: run}
        milliseconds = milliseconds_in_turn(list(timed.values()), [faces[:1]] * len(timed))
        half.replace(target)
    commands.record(client, "export", f"export {target.name}", {"model": config.model})
    say(f"{target} ({target.stat().st_size / 1e6:.1f} MB): {said}.")
    speeds = zip(timed, milliseconds, strict=True)
    say("One face at a time: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in speeds))


def _converted(model: Any, kind: str, file: Path) -> formats.Run:
    try:
        formats.export(model, kind, file)
        return formats.RUNNERS[kind](file)
    except FerSearchError:
        raise
    except Exception as error:  # converters raise whatever their libraries do
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ExportFailed(
            f"the model cannot be converted to {kind}: {reason}",
            hint="try the other format",
        ) from error


def _faces(client: store.Client, run_id: str) -> tuple[np.ndarray, str]:
    """Get faces to compare on: the model's validation images, or drawn ones if they are gone."""
    study_run = study_run_of(client, run_id)
    settings = study_run.read_json("config.json") if study_run else None
    try:
        if study_run and settings:
            splits = prepare(SearchConfig(**settings))
            if study_run.tags.get("train_digest") == splits.train_digest:
                images = splits.validation.images[:_FACES]
                return images, f"validation images of study {settings['study']}"
            say("The data of the model's study has changed.")
    except InputError as error:
        say(f"The model's validation images cannot be loaded: {error.message}")
    return draw(_FACES, seed=0)[0], "synthetic faces"
