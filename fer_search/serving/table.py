"""A CSV or JSON table on disk, written row by row, that appears complete or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

Row = Mapping[str, Any]


@contextlib.contextmanager
def writing(table: Path, columns: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    """Write a table; it replaces an earlier one when the context ends without an exception.

    Args:
        table: The file; JSON if its name ends in `.json`, otherwise CSV.
        columns: Column names, in order. A row has all of them.

    Yields:
        A function that adds a row.

    Raises:
        OSError: If the file cannot be written; on entry rather than at the end.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    half = table.with_name(f".{table.name}.{os.getpid()}")
    kind = _json if table.suffix.lower() == ".json" else _csv
    try:
        with half.open("w", newline="", encoding="utf-8") as file, kind(file, columns) as add:
            yield add
        half.replace(table)
    finally:
        half.unlink(missing_ok=True)


@contextlib.contextmanager
def _csv(file: TextIO, columns: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    yield writer.writerow


@contextlib.contextmanager
def _json(file: TextIO, columns: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    before = "["

    def add(row: Row) -> None:
        nonlocal before
        file.write(f"{before}\n {json.dumps({name: row[name] for name in columns})}")
        before = ","

    yield add
    file.write(f"{before if before == '[' else ''}\n]\n")
