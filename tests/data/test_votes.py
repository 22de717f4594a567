from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_search.config import EMOTIONS, SearchConfig
from fer_search.data.preparation import prepare
from fer_search.data.votes import agreement, not_faces, read
from fer_search.errors import DataError

HAPPY, SAD = EMOTIONS.index("happy"), EMOTIONS.index("sad")
HEADER = "path,neutral,happiness,unknown,NF"


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    file = folder / "votes.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_what_most_taggers_call_no_face_is_found(tmp_path: Path) -> None:
    origins = np.array(["train/sad/1.jpg", "train/sad/2.jpg", "train/sad/3.jpg", "train/sad/4.jpg"])
    file = write(
        tmp_path,
        "train/sad/2.jpg,0,0,4,6",
        "train/sad/1.jpg,5,0,0,5",
        "elsewhere.jpg,0,0,0,10",
        "train/sad/4.jpg,0,0,0,10",
        "",
    )
    votes = read(file, origins)
    assert list(votes["elsewhere.jpg"]) == ["neutral", "happiness", "unknown", "nf"]
    assert not_faces(votes, origins).tolist() == [1, 3]


@pytest.mark.parametrize(("label", "share"), [(HAPPY, 0.75), (SAD, 0.25)])
def test_votes_on_other_images_are_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, label: int, share: float
) -> None:
    origins = np.array(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "not voted on.jpg"])
    rows = [f"{name}.jpg,0,9,1,0,0" for name in "abc"]
    file = write(
        tmp_path, *rows, "d.jpg,0,0,9,0,0", header="path,neutral,happiness,sadness,unknown,NF"
    )
    votes = read(file, origins)
    assert agreement(votes, origins, np.full(5, label)) == share
    warned = "labels of only 25 % of the images" in caplog.text
    assert warned == (share < 0.5)


@pytest.mark.parametrize(
    ("row", "header", "said"),
    [
        ("a.jpg,1,2,3,4", "path,neutral", "expected the columns path, NF"),
        ("a.jpg,1,2,3", HEADER, "line 2: 4 cells, expected 5"),
        ("a.jpg,1,2,3,many", HEADER, "line 2: invalid literal for int"),
        ("elsewhere.jpg,1,2,3,4", HEADER, "no path in it is a path of the data, such as a.jpg"),
    ],
    ids=["header", "cut", "word", "elsewhere"],
)
def test_other_files_are_refused(tmp_path: Path, row: str, header: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(write(tmp_path, row, header=header), np.array(["a.jpg"]))


def test_no_faces_leave_training_alone_and_the_report_says_so(tmp_path: Path, write_folder) -> None:
    root = write_folder(tmp_path / "faces", parts=("train", "validation", "test"))
    paths = [path.relative_to(root).as_posix() for path in root.rglob("happy/*")]
    file = write(tmp_path, *[f"{path},0,0,0,10" for path in paths if path[-5] == "0"])
    original = SearchConfig(data=str(root))
    cleaned = SearchConfig(data=str(root), faces="cleaned", votes=str(file))
    before, after = prepare(original), prepare(cleaned)
    assert set(before.train.origins) - set(after.train.origins) == {"train/happy/0.png"}
    assert before.test_digest == after.test_digest
    assert before.validation.origins.tolist() == after.validation.origins.tolist()
    assert after.report["votes"]["agreement_with_labels"] == 0
    assert after.report["dropped"]["in train without a face"]["count"] == 1
    assert before.train_digest != after.train_digest
