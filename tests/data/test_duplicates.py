from __future__ import annotations

import numpy as np
import pytest

from fer_search.data.duplicates import PARTS, find

CONFLICT = "with conflicting labels in train"
HELD_OUT = "in train and also held out"
REPEATED = "repeated in train"
IN_TEST = "in validation and also in test"


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        pytest.param("1a train, 2a train, 3a test", {}, id="nothing_in_common"),
        pytest.param("1a train, 1a train, 1a train", {REPEATED: [1, 2]}, id="the_first_stays"),
        pytest.param("1a train, 1b train, 1a train", {CONFLICT: [0, 1, 2]}, id="conflict"),
        pytest.param("1a test, 1a train", {HELD_OUT: [1]}, id="train_in_test"),
        pytest.param("1a train, 1b validation", {HELD_OUT: [0]}, id="train_in_validation"),
        pytest.param("1a train, 1a train, 1a test", {HELD_OUT: [0, 1]}, id="held_out_repeated"),
        pytest.param("1a train, 1b train, 1a test", {CONFLICT: [0, 1]}, id="one_reason_each"),
        pytest.param("1a validation, 1b test", {IN_TEST: [0]}, id="validation_in_test"),
        pytest.param("1a validation, 1a validation", {}, id="validation_keeps_repeats"),
        pytest.param("1a test, 1b test", {}, id="test_is_never_cut"),
        pytest.param(
            "1a train, 1a validation, 1a test", {HELD_OUT: [0], IN_TEST: [1]}, id="in_all_three"
        ),
    ],
)
def test_images_leave_for_the_first_reason_that_holds(
    rows: str, left: dict[str, list[int]]
) -> None:
    cells = [row.split() for row in rows.split(", ")]
    contents = [int(cell[0][0]) for cell in cells]
    images = np.broadcast_to(np.array(contents, np.uint8)[:, None, None], (len(cells), 48, 48))
    labels = np.array(["ab".index(row[0][1]) for row in cells])
    parts = np.array([PARTS.index(row[1]) for row in cells])
    found = find(np.ascontiguousarray(images), labels, parts)
    assert {reason: positions.tolist() for reason, positions in found.items()} == left
