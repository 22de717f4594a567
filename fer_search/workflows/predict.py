"""Say which emotions the faces in pictures show, with a model of the registry.

Pictures in; a table, or annotated pictures and a table out. What can not be read is a row with its
`error`, and the others have their answers.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_search.config import EMOTIONS, PredictionConfig
from fer_search.data.photos import listed
from fer_search.data.pictures import upright
from fer_search.errors import DataError
from fer_search.progress import say, tracked
from fer_search.serving.annotation import annotate
from fer_search.serving.faces import FaceFinder, Region
from fer_search.serving.package import load_predictor
from fer_search.tracking import commands, store

COLUMNS = (
    "path", "region", "left", "top", "side", "certainty", "emotion", "probability", *EMOTIONS,
    "error",
)  # fmt: skip
_AT_ONCE = 32
"""Pictures between two calls of the model."""


@dataclasses.dataclass
class _Photo:
    """A picture of which something is to be said."""

    path: Path
    picture: Any = None
    regions: Sequence[Region] = ()
    error: str | None = None


def predict(config: PredictionConfig) -> None:
    """Write what a model sees in the pictures of `input` to `output`.

    Raises:
        DataError: If `input` names no picture, or `output` can not be written.
        StoreError: If there is no such model.
    """
    source, target = Path(config.input), Path(config.output)
    paths = listed(source)
    is_table = target.suffix.lower() in (".csv", ".json")
    table = target if is_table else target / "predictions.csv"
    written = {table} if is_table else {table, *(target / _name(path, source) for path in paths)}
    _insist_on_no_overwriting({source, *paths}, written)
    _insist_on_writable(table)
    client = store.connect()
    (model, _), finder = load_predictor(config.model), FaceFinder()
    rows: list[dict[str, Any]] = []
    chunks = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    for chunk in tracked(chunks, f"{len(paths):,} pictures"):
        photos = [_opened(path, finder) for path in chunk]
        answers = iter(_answers(photos, model, config.views))
        for photo in photos:
            seen = [_row(photo, region, next(answers)) for region in photo.regions]
            if photo.picture and not is_table:
                _save(annotate(photo.picture, seen), target / _name(photo.path, source))
            rows += seen or [_row(photo)]
    _write(rows, table)
    commands.record(client, "predict", f"predict {source.name}", {"model": config.model})
    kinds = Counter(row["region"] or "unreadable" for row in rows)
    say(f"{table}: {', '.join(f'{n:,} {kind}' for kind, n in kinds.most_common())}")


def _opened(path: Path, finder: FaceFinder) -> _Photo:
    try:
        picture = upright(path.read_bytes())
    except DataError as error:
        return _Photo(path, error=error.message)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        return _Photo(path, error=f"can not be read: {getattr(error, 'strerror', error)}")
    return _Photo(path, picture, finder.regions(picture))


def _answers(photos: Sequence[_Photo], model: Any, views: int) -> np.ndarray:
    """Probabilities of all regions of all pictures in turn, shape (N, 7)."""
    faces = [region.cut(photo.picture, model.size) for photo in photos for region in photo.regions]
    empty = np.empty((0, model.size, model.size), np.uint8)
    answers: np.ndarray = model.predict_images(np.stack(faces) if faces else empty, views)
    return answers


def _row(
    photo: _Photo, region: Region | None = None, answer: np.ndarray | None = None
) -> dict[str, Any]:
    path = os.fsencode(photo.path).decode("utf-8", "backslashreplace")  # names may be no text
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"path": path, "error": photo.error}
    if region is not None and answer is not None:
        row |= dataclasses.asdict(region)
        row |= {"emotion": EMOTIONS[answer.argmax()], "probability": round(float(answer.max()), 4)}
        row |= {name: round(float(p), 4) for name, p in zip(EMOTIONS, answer, strict=True)}
    return row


def _name(path: Path, source: Path) -> Path:
    """Where an annotated picture goes: as its original lies in the source, as a PNG.

    No two originals share a name: `a.jpg` becomes `a.jpg.png`, and `a.png` stays.
    """
    base = source if source.is_dir() else source.parent
    try:
        inside = path.relative_to(base)
    except ValueError:  # a CSV may name pictures from anywhere
        inside = Path(*path.parts[1:]) if path.is_absolute() else path
    kept = Path(*([part for part in inside.parts if part != ".."] or ["unnamed"]))
    return kept if kept.suffix == ".png" else kept.with_name(f"{kept.name}.png")


def _insist_on_no_overwriting(read: set[Path], written: set[Path]) -> None:
    both = {path.absolute() for path in read} & {path.absolute() for path in written}
    if both:
        raise DataError(
            f"{min(both)} is read, and would be overwritten", hint="name another output=…"
        )


def _insist_on_writable(table: Path) -> None:
    """Find out before there is work to lose."""
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.open("a").close()
    except OSError as error:
        raise DataError(f"output={table} can not be written: {error.strerror}") from error


def _save(picture: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)


def _write(rows: Sequence[dict[str, Any]], table: Path) -> None:
    """Write all rows or, if something goes wrong, none."""
    half = table.with_name(f".{table.name}.{os.getpid()}")
    with half.open("w", newline="", encoding="utf-8") as file:
        if table.suffix.lower() == ".json":
            json.dump(rows, file, indent=1, ensure_ascii=False)
        else:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    half.replace(table)
