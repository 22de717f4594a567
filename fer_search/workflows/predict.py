"""Predict the emotions of the faces in images, with a model of the registry.

Images go in; a table, or annotated images and a table, comes out. An image that cannot be read
becomes a row with its `error`; the others are answered as usual.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_search.command_config import PredictionConfig
from fer_search.config import EMOTIONS
from fer_search.data.folders import SUFFIXES
from fer_search.data.images import upright
from fer_search.data.photos import listed
from fer_search.errors import DataError
from fer_search.progress import say, tracked
from fer_search.serving.annotation import annotate
from fer_search.serving.faces import FaceFinder, Region
from fer_search.serving.package import load_predictor
from fer_search.serving.table import writing
from fer_search.tracking import commands, store

COLUMNS = (
    "path", "region", "left", "top", "side", "certainty", "emotion", "probability", *EMOTIONS,
    "error",
)  # fmt: skip
_OTHER_FILES = SUFFIXES | {".parquet", ".tsv", ".txt", ".xls", ".xlsx"}
"""An output with one of these is meant to be a file of a kind that is not written."""
_AT_ONCE = 32
"""Number of images in one call of the model."""


@dataclasses.dataclass
class _Photo:
    """An image and its regions, or why it cannot be read."""

    path: Path
    image: Any = None
    regions: Sequence[Region] = ()
    error: str | None = None


def predict(config: PredictionConfig) -> None:
    """Write a model's predictions for the images of `input` to `output`.

    Raises:
        DataError: If `input` names no image, or `output` is neither a table nor a folder, cannot
            be written, or would overwrite what is read.
        StoreError: If there is no such model.
    """
    source, target = Path(config.input), Path(config.output)
    paths = listed(source)
    is_table = target.suffix.lower() in (".csv", ".json")
    if target.suffix.lower() in _OTHER_FILES and not target.is_dir():
        raise DataError(
            f"output={target} is neither a .csv nor a .json nor a folder",
            hint="use e.g. output=faces.csv, or the name of a folder",
        )
    table = target if is_table else target / "predictions.csv"
    drawn = {} if is_table else {p: target / name for p, name in _names(paths, source).items()}
    _check_no_overwriting({source, *paths}, {table, *drawn.values()})
    client = store.connect()
    (model, _), finder = load_predictor(config.model), FaceFinder()
    kinds: Counter[str] = Counter()
    chunks = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    try:
        with writing(table, COLUMNS) as add:
            for chunk in tracked(chunks, f"{len(paths):,} images"):
                for row in _seen(chunk, model, finder, config.views, drawn):
                    kinds[row["region"] or "unreadable"] += 1
                    add(row)
    except OSError as error:
        raise DataError(f"output={table} cannot be written: {error.strerror}") from error
    commands.record(client, "predict", f"predict {source.name}", {"model": config.model})
    say(f"{table}: {', '.join(f'{n:,} {kind}' for kind, n in kinds.most_common())}")


def _seen(
    paths: Sequence[Path], model: Any, finder: FaceFinder, views: int, drawn: Mapping[Path, Path]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of some images, and annotate those in `drawn`."""
    photos = [_opened(path, finder) for path in paths]
    answers = iter(_answers(photos, model, views))
    for photo in photos:
        rows = [_row(photo, region, next(answers)) for region in photo.regions]
        if photo.image and photo.path in drawn:
            error = _save(annotate(photo.image, rows), drawn[photo.path])
            rows = [row | {"error": error} for row in rows]
        yield from rows or [_row(photo)]


def _opened(path: Path, finder: FaceFinder) -> _Photo:
    try:
        image = upright(path.read_bytes())
    except DataError as error:
        return _Photo(path, error=error.message)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        return _Photo(path, error=f"cannot be read: {getattr(error, 'strerror', error)}")
    return _Photo(path, image, finder.regions(image))


def _answers(photos: Sequence[_Photo], model: Any, views: int) -> np.ndarray:
    """Predict the probabilities of all regions of all images in turn, shape (N, 7)."""
    faces = [region.cut(photo.image, model.size) for photo in photos for region in photo.regions]
    empty = np.empty((0, model.size, model.size), np.uint8)
    answers: np.ndarray = model.predict_images(np.stack(faces) if faces else empty, views)
    return answers


def _row(
    photo: _Photo, region: Region | None = None, answer: np.ndarray | None = None
) -> dict[str, Any]:
    path = os.fsencode(photo.path).decode("utf-8", "backslashreplace")  # it may not be valid text
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"path": path, "error": photo.error}
    if region is not None and answer is not None:
        row |= dataclasses.asdict(region)
        row |= {"emotion": EMOTIONS[answer.argmax()], "probability": round(float(answer.max()), 4)}
        row |= {name: round(float(p), 4) for name, p in zip(EMOTIONS, answer, strict=True)}
    return row


def _names(paths: Iterable[Path], source: Path) -> dict[Path, Path]:
    """Choose where annotated images go: laid out as in the source, each with a unique name.

    `a.jpg` becomes `a.jpg.png`, and `a.png` stays.
    """
    base = source if source.is_dir() else source.parent
    names: dict[Path, Path] = {}
    taken: Counter[str] = Counter()
    for path in dict.fromkeys(paths):
        try:
            inside = path.relative_to(base)
        except ValueError:  # a CSV may name images from anywhere
            inside = Path(*path.parts[1:]) if path.is_absolute() else path
        kept = Path(*([part for part in inside.parts if part != ".."] or ["unnamed"]))
        name = kept if kept.suffix == ".png" else kept.with_name(f"{kept.name}.png")
        while taken[str(name).lower()]:  # some file systems take A.png for a.png
            taken[str(name).lower()] += 1
            name = name.with_stem(f"{name.stem}-{taken[str(name).lower()]}")
        taken[str(name).lower()] += 1
        names[path] = name
    return names


def _check_no_overwriting(read: set[Path], written: set[Path]) -> None:
    both = {path.absolute() for path in read} & {path.absolute() for path in written}
    if both:
        raise DataError(
            f"{min(both)} is an input and would be overwritten", hint="choose another output=…"
        )


def _save(image: Any, file: Path) -> str | None:
    """Store an annotated image; return what went wrong, or None."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
    except (OSError, ValueError) as error:
        return f"{file} cannot be written: {getattr(error, 'strerror', None) or error}"
    return None
