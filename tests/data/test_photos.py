import pytest

from fer_search.data.photos import listed
from fer_search.errors import DataError


def test_a_file_is_itself(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert listed(tmp_path / "a.jpg") == [tmp_path / "a.jpg"]


def test_a_folder_is_its_images_at_any_depth(tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert listed(tmp_path) == [tmp_path / "a/c.jpeg", tmp_path / "b.PNG"]


def test_a_csv_lists_paths_in_its_order_from_its_own_folder(tmp_path):
    (tmp_path / "list.csv").write_text("who,path\nx,b.png\ny,/far/a.png\n", encoding="utf-8-sig")
    assert [str(path) for path in listed(tmp_path / "list.csv")] == [
        str(tmp_path / "b.png"), "/far/a.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.jpg", None, "no such file"),
        ("list.csv", "file\na.png\n", "no column 'path'; found file"),
        ("list.csv", "", "found nothing"),
        ("list.csv", "path\n", "no rows"),
        ("list.csv", b"path\n\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_lists_nothing_is_refused(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        listed(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="contains no images"):
        listed(tmp_path)
