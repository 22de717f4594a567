from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.data.votes import not_faces
from fer_search.errors import DataError

HEADER = "path,neutral,happiness,unknown,NF"


def votes(folder: Path, *rows: str, header: str = HEADER) -> Path:
    file = folder / "votes.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_what_most_taggers_call_no_face_is_found(tmp_path: Path) -> None:
    origins = np.array(["train/sad/1.jpg", "train/sad/2.jpg", "train/sad/3.jpg", "train/sad/4.jpg"])
    file = votes(
        tmp_path,
        "train/sad/2.jpg,0,0,4,6",
        "train/sad/1.jpg,5,0,0,5",
        "elsewhere.jpg,0,0,0,10",
        "train/sad/4.jpg,0,0,0,10",
    )
    assert not_faces(file, origins).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("row", "header", "said"),
    [
        ("a.jpg,1,2,3,4", "path,neutral", "expected are the columns path, NF"),
        ("a.jpg,1,2,3", HEADER, "line 2"),
        ("a.jpg,1,2,3,many", HEADER, "line 2: invalid literal for int"),
        ("elsewhere.jpg,1,2,3,4", HEADER, "no path in it is one of the data, e.g. a.jpg"),
    ],
    ids=["header", "cut", "word", "elsewhere"],
)
def test_other_files_are_refused(tmp_path: Path, row: str, header: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        not_faces(votes(tmp_path, row, header=header), np.array(["a.jpg"]))


def test_no_faces_leave_training_alone_and_the_report_says_so(tmp_path: Path, write_folder) -> None:
    root = write_folder(tmp_path / "faces", parts=("train", "validation", "test"))
    paths = [path.relative_to(root).as_posix() for path in root.rglob("happy/*")]
    file = votes(tmp_path, *[f"{path},0,0,0,10" for path in paths if path[-5] == "0"])
    original = SearchConfig(data=str(root))
    cleaned = SearchConfig(data=str(root), faces="cleaned", votes=str(file))
    before, after = prepare(original), prepare(cleaned)
    assert set(before.train.origins) - set(after.train.origins) == {"train/happy/0.png"}
    assert before.test_digest == after.test_digest
    assert before.validation.origins.tolist() == after.validation.origins.tolist()
    assert after.report["dropped"]["in train that are no faces"]["count"] == 1
    assert before.train_digest != after.train_digest


@pytest.mark.slow
def test_the_real_votes_name_the_real_non_faces(shared: Path, tmp_path: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(shared / "data/fer2013.zip").namelist()
    origins = np.array([name for name in names if name.endswith(".jpg")])
    found = origins[not_faces(shared / "data/ferplus_votes.csv", origins)]
    assert sum("Training" in name for name in found) == 148
