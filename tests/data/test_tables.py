from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fer_search.config import EMOTIONS
from fer_search.data import tables
from fer_search.data.sources import load
from fer_search.data.splits import split
from fer_search.errors import DataError

ORIGINAL = "emotion,pixels,Usage"
KAGGLE = "emotion, Usage, pixels"


def pixels(n: int) -> str:
    return " ".join([str(n)] * 2304)


def table(path: Path, header: str = ORIGINAL, *rows: str) -> Path:
    """A table of one row per emotion and usage, then `rows`; pixels are 10 times the emotion."""
    lines = [header]
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for number in range(7):
            cells = {"emotion": str(number), "pixels": pixels(10 * number), "Usage": usage}
            lines.append(",".join(cells[name.strip()] for name in header.split(",")))
    path.write_text("\n".join([*lines, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("header", [ORIGINAL, KAGGLE, "emotion,pixels"])
def test_the_numbers_of_the_challenge_become_the_right_emotions(
    tmp_path: Path, header: str
) -> None:
    read = tables.read(table(tmp_path / "fer2013.csv", header))
    assert (read["images"].shape, read["images"].dtype) == ((21, 48, 48), np.uint8)
    names = [EMOTIONS[label] for label in read["labels"][:7]]
    assert names == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert read["images"][:7, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert read["lines"][[0, 20]].tolist() == [2, 22]
    parts = ["train", "validation", "test"] if "Usage" in header else ["", "", ""]
    assert read["splits"].tolist() == [part for part in parts for _ in range(7)]


def test_a_table_is_a_source_that_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = table(tmp_path / "fer2013.csv")
    first = load(str(file), seed=1)
    monkeypatch.delattr(tables, "read")
    second = load(str(file), seed=2)
    assert isinstance(second.images, np.memmap)
    assert np.array_equal(first.images, second.images)
    assert (second.name, second.splits[20]) == (str(file), "test")
    renamed = file.rename(tmp_path / "other.csv")
    assert load(str(renamed), seed=1).origins[0] == "other.csv:2"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param(f"7,{pixels(1)},Training", "line 23: emotion '7', expected 0 to 6", id="7"),
        pytest.param(f"happy,{pixels(1)},Training", "line 23: emotion 'happy'", id="word"),
        pytest.param("3,1 2 3,Training", "line 23: 3 pixels, expected 2304", id="few"),
        pytest.param(f"3,{pixels(256)},Training", "256, expected 0 to 255", id="bright"),
        pytest.param(f"3,{pixels(-1)},Training", "-1 to -1, expected", id="negative"),
        pytest.param(f"3,{pixels(1)[:-1]}x,Training", "line 23: a pixel is not", id="letter"),
        pytest.param(f"3,{pixels(10**30)},Training", "line 23: a pixel is not", id="huge"),
        pytest.param(f"3,{pixels(1)},Test", "line 23: Usage 'Test'", id="usage"),
        pytest.param(f"3,{pixels(1)},-", "line 23: Usage '-'", id="dash"),
        pytest.param("3", "line 23: 1 cells, expected 3", id="cut"),
        pytest.param(f"3,{pixels(1)},", "line 23: Usage ''", id="no_usage"),
        pytest.param(f"3,{pixels(1)},Training,1", "line 23: 4 cells, expected 3", id="long"),
    ],
)
def test_a_malformed_row_is_refused_by_its_line(tmp_path: Path, row: str, said: str) -> None:
    with pytest.raises(DataError, match="malformed rows") as refusal:
        load(str(table(tmp_path / "faces.csv", ORIGINAL, row)), seed=1)
    assert said in refusal.value.message


def test_of_many_malformed_rows_the_first_are_told_and_all_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 23: .*; line 27: .* and 3 more\n"):
        tables.read(table(tmp_path / "faces.csv", ORIGINAL, *["9,1,Training"] * 8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "the header is missing", id="empty"),
        pytest.param(b"a,b\n1,2\n", "the header is a, b", id="header"),
        pytest.param(b"emotion,pixels\n", "no images of angry", id="no_rows"),
        pytest.param(b"PK\x03\x04\xff\xfe", "not a text table", id="zip"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "faces.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(str(file), seed=1)


@pytest.mark.slow
@pytest.mark.long
def test_the_real_table_gives_the_same_splits_as_the_real_folder(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack = [sys.executable, shared / "data/unpack.py", "--to", tmp_path / "kagglehub"]
    subprocess.run(unpack, check=True)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    faces = load("fer2013", seed=1)
    usage = {part: name for name, part in tables.OFFICIAL_PARTS.items()}
    lines = [KAGGLE]
    for image, label, part in zip(faces.images, faces.labels, faces.splits, strict=True):
        number = tables.CHALLENGE.index(EMOTIONS[label])
        lines.append(f"{number}, {usage[part]}, {' '.join(map(str, image.ravel()))}")
    file = tmp_path / "icml_face_data.csv"
    file.write_text("\n".join(lines))
    one, other = (split(load(data, seed=1), limit=0, seed=1) for data in ("fer2013", str(file)))
    assert one.test_digest == other.test_digest
    assert one.train_digest == other.train_digest
    assert one.report["counts"] == other.report["counts"]
