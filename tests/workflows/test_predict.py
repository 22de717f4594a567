"""Predictions from images to tables and annotated images, with a real (untrained) model."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from fer_search.command_config import PredictionConfig
from fer_search.config import EMOTIONS
from fer_search.errors import DataError, StoreError
from fer_search.serving import package
from fer_search.serving.annotation import annotate
from fer_search.serving.faces import FACE, WHOLE
from fer_search.workflows.predict import predict

skimage = pytest.importorskip("skimage")


@pytest.fixture
def asked(stored, monkeypatch):
    """A function that predicts with the stored model."""
    uri, model = stored
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def asked(**values):
        predict(PredictionConfig(**({"model": model} | values)))

    return asked


@pytest.fixture
def photos(tmp_path):
    """A folder with images of one, two, a cropped and no face, and a broken file."""
    folder = tmp_path / "photos"
    (folder / "group").mkdir(parents=True)
    face = Image.fromarray(skimage.data.astronaut())
    face.save(folder / "face.jpg")
    two = Image.new("RGB", (1024, 512))
    two.paste(face, (0, 0))
    two.paste(face, (512, 0))
    two.save(folder / "group" / "two.png")
    face.crop((165, 55, 290, 180)).convert("L").resize((48, 48)).save(folder / "crop.png")
    Image.new("L", (90, 60), 128).save(folder / "grey.png")
    (folder / "broken.jpg").write_text("this is no image")
    return folder


def test_a_folder_becomes_a_table_with_a_row_for_each_face(asked, photos, tmp_path, capsys):
    asked(input=str(photos), output=str(tmp_path / "new" / "out.csv"))
    rows = list(csv.DictReader((tmp_path / "new" / "out.csv").read_text().splitlines()))
    seen = [(row["path"].removeprefix(f"{photos}/"), row["region"]) for row in rows]
    assert seen == [
        ("broken.jpg", ""), ("crop.png", "cropped face"), ("face.jpg", "face"),
        ("grey.png", "no face found"), ("group/two.png", "face"), ("group/two.png", "face"),
    ]  # fmt: skip
    assert rows[0]["error"] == "is not an image"
    assert rows[0]["emotion"] == ""
    for row in rows[1:]:
        chances = [float(row[name]) for name in EMOTIONS]
        assert sum(chances) == pytest.approx(1, abs=1e-3)
        assert float(row["probability"]) == max(chances) == float(row[row["emotion"]])
        assert row["error"] == ""
    assert [row["left"] != "0" for row in rows[4:]] == [True, True]
    assert "3 face, 1 unreadable, 1 cropped face, 1 no face found" in capsys.readouterr().out


def test_the_answer_is_that_of_the_model_for_the_cut_region(asked, photos, stored, tmp_path):
    asked(input=str(photos / "crop.png"), output=str(tmp_path / "out.json"), views=2)
    (row,) = json.loads((tmp_path / "out.json").read_text())
    pixels = np.asarray(Image.open(photos / "crop.png"))
    predictor, _ = package.load_predictor(stored[1])
    (answer,) = predictor.predict_images(pixels[None], 2)
    assert [row[name] for name in EMOTIONS] == pytest.approx(answer.tolist(), abs=1e-4)
    assert row["error"] is None


def test_a_csv_of_paths_in_batches_keeps_its_order(asked, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_search.workflows.predict._AT_ONCE", 2)
    names = ["crop.png", "nothing.png", "face.jpg", "crop.png", "group"]
    (photos / "list.csv").write_text("\n".join(["path", *names]))
    asked(input=str(photos / "list.csv"), output=str(tmp_path / "out.json"))
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["path"] for row in rows] == [str(photos / name) for name in names]
    assert [row["error"] and row["error"][:14] for row in rows] == [
        None, "cannot be read", None, None, "cannot be read",
    ]  # fmt: skip
    assert rows[0] == rows[3]


def test_a_folder_as_output_gets_annotated_images_and_the_table(asked, photos, tmp_path):
    seen = tmp_path / "seen-26.11"
    asked(input=str(photos), output=str(seen))
    names = sorted(str(path.relative_to(seen)) for path in seen.rglob("*.*"))
    assert names == [
        "crop.png", "face.jpg.png", "grey.png", "group/two.png", "predictions.csv",
    ]  # fmt: skip
    before = np.asarray(Image.open(photos / "face.jpg").convert("RGB"), int)
    after = np.asarray(Image.open(seen / "face.jpg.png"), int)
    changed = np.abs(after - before).sum(axis=2) > 60
    assert 0 < changed.mean() < 0.05, "a frame and a label, nothing else"
    assert not changed[300:].any(), "below the face"


def test_where_no_face_is_found_none_is_framed():
    image = Image.new("RGB", (320, 320))
    row = {"left": 60, "top": 60, "side": 200, "emotion": "fear", "probability": 0.22}
    framed, unframed = (
        np.asarray(annotate(image, [row | {"region": region}])) for region in (FACE, WHOLE)
    )
    assert framed[200, 60].any()
    assert not unframed[61:].any(), "a label, nothing else"
    assert unframed[:61].any()


def test_odd_names_and_empty_cells_cost_a_row_not_the_run(asked, photos, tmp_path):
    (photos / "list.csv").write_text("who,path\nx,\ny,a\0b.png\nz\nw,crop.png\n")
    asked(input=str(photos / "list.csv"), output=str(tmp_path / "seen"))
    (tmp_path / "odd").mkdir()
    (photos / "crop.png").rename(tmp_path / "odd" / os.fsdecode(b"caf\xe9.png"))
    asked(input=str(tmp_path / "odd"), output=str(tmp_path / "out.csv"))
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert row["path"].endswith("caf\\xe9.png")
    assert row["error"] == ""


def test_images_of_the_same_name_are_annotated_side_by_side(asked, photos, tmp_path):
    crop = photos / "crop.png"
    for name in ("deep/x", "x/crop.png", "x/CROP.png", "x/crop"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(crop, photos / name)
    listed = ["x/crop.png", "x/CROP.png", "x/crop", "deep/../x/crop.png", "../photos/x/crop.png"]
    (photos / "list.csv").write_text("\n".join(["path", *listed, "x/crop.png"]))
    asked(input=str(photos / "list.csv"), output=str(tmp_path / "seen"))
    assert len(list((tmp_path / "seen").rglob("*.png"))) == len(listed)


def test_an_annotated_image_that_cannot_be_written_costs_a_row(asked, photos, tmp_path):
    (tmp_path / "seen" / "face.jpg.png").mkdir(parents=True)
    asked(input=str(photos), output=str(tmp_path / "seen"))
    rows = csv.DictReader((tmp_path / "seen" / "predictions.csv").read_text().splitlines())
    errors = {row["path"].removeprefix(f"{photos}/"): row["error"] for row in rows}
    assert "face.jpg.png cannot be written" in errors.pop("face.jpg")
    assert errors.pop("broken.jpg")
    assert not any(errors.values())


def test_what_stops_leaves_the_earlier_table_and_nothing_half(asked, photos, tmp_path):
    (tmp_path / "out.csv").write_text("an earlier one")
    with pytest.raises(StoreError, match="cannot be loaded"):
        asked(input=str(photos), output=str(tmp_path / "out.csv"), model="models:/nobody/1")
    with pytest.raises(StoreError, match="cannot be loaded"):
        asked(input=str(photos), output=str(tmp_path / "new.csv"), model="models:/nobody/1")
    assert (tmp_path / "out.csv").read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "photos"]


@pytest.mark.parametrize("output", ["photos", "photos/list.csv"])
def test_nothing_that_is_read_is_overwritten(asked, photos, tmp_path, output):
    (photos / "list.csv").write_text("path\ncrop.png\n")
    source = photos / "list.csv" if output.endswith("csv") else photos
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    with pytest.raises(DataError, match="would be overwritten"):
        asked(input=str(source), output=str(tmp_path / output))
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("values", "error", "said"),
    [
        ({"input": "nowhere"}, DataError, "no such file or folder"),
        ({"output": "/dev/null/out.csv"}, DataError, "cannot be written"),
        ({"output": "face.PNG"}, DataError, "neither a .csv nor a .json"),
        ({"output": "faces.xlsx"}, DataError, "neither a .csv nor a .json"),
        ({"model": "models:/nobody@champion"}, StoreError, "promote one first"),
    ],
)
def test_mistakes_are_refused_with_advice(asked, photos, tmp_path, values, error, said):
    good = {"input": str(photos), "output": str(tmp_path / "out.csv")}
    with pytest.raises(error, match=said):
        asked(**good | values)
