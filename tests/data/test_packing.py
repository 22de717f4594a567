from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Never

import numpy as np
import pytest

from fer_search.data.packing import pack
from fer_search.errors import DataError

ARRAYS = {
    "images": np.arange(2 * 48 * 48, dtype=np.uint8).reshape(2, 48, 48),
    "origins": np.array(["angry/a.png", "happy/ä.png"]),
    "skipped": np.empty((0, 2), "U1"),
}


def make() -> dict[str, np.ndarray]:
    return ARRAYS


def fail() -> Never:
    raise AssertionError("made again")


def assert_intact(arrays: dict[str, np.ndarray]) -> None:
    assert list(arrays) == list(ARRAYS)
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        assert np.array_equal(array, ARRAYS[name])


def test_what_was_made_once_is_mapped_read_only_and_never_made_again() -> None:
    assert_intact(pack("key", make))
    arrays = pack("key", fail)
    assert_intact(arrays)
    assert isinstance(arrays["images"], np.memmap)
    assert not arrays["images"].flags.writeable


def test_another_key_is_another_content() -> None:
    pack("key", make)
    with pytest.raises(AssertionError, match="made again"):
        pack("other", fail)


def truncate(folder: Path) -> None:
    with (folder / "images.npy").open("r+b") as file:
        file.truncate(1000)


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "images.npy").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        pytest.param(lambda folder: (folder / "images.npy").unlink(), id="array_missing"),
        pytest.param(lambda folder: (folder / "images.npy").write_bytes(b""), id="array_empty"),
        pytest.param(lambda folder: (folder / "meta.json").unlink(), id="table_missing"),
        pytest.param(lambda folder: (folder / "meta.json").write_text("{"), id="table_broken"),
        pytest.param(lambda folder: (folder / "meta.json").write_text("[]"), id="table_a_list"),
        pytest.param(lambda folder: (folder / "meta.json").write_bytes(b"\xff"), id="table_bytes"),
        pytest.param(lambda folder: folder.rename(f"{folder}.part"), id="killed_before_the_end"),
    ],
)
def test_damaged_arrays_are_made_again(cache: Path, damage: object) -> None:
    pack("key", make)
    damage(cache / "key")  # type: ignore[operator]
    assert_intact(pack("key", make))
    assert_intact(pack("key", fail))


def test_nothing_is_kept_when_making_fails(cache: Path) -> None:
    with pytest.raises(AssertionError):
        pack("key", fail)
    assert not (cache / "key").exists()
    assert_intact(pack("key", make))


def test_two_processes_at_once_make_one_intact_content(tmp_path: Path) -> None:
    log = tmp_path / "made"
    code = f"""
import time, numpy as np
from fer_search.data.packing import pack

def make():
    with open({str(log)!r}, "a") as file:
        file.write("made\\n")
    time.sleep(0.3)
    return {{"numbers": np.arange(100_000)}}

assert np.array_equal(pack("key", make)["numbers"], np.arange(100_000))
"""
    root = Path(__file__).parents[2]
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=root) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert log.read_text() == "made\n"


def test_a_cache_that_cannot_be_written_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="XDG_CACHE_HOME"):
        pack("key", make)


def test_a_full_disk_is_explained_and_recovered_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(DataError, match="No space left"):
            pack("key", make)
    assert_intact(pack("key", make))


def test_pickled_objects_are_neither_written_nor_read() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        pack("key", lambda: {"objects": np.array([{}], dtype=object)})
