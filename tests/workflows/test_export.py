"""Exports from the registry, checked and refused, in this process on a real store."""

import numpy as np
import pytest

from fer_search.command_config import ExportConfig
from fer_search.errors import DataError, ExportFailed, StoreError
from fer_search.serving.formats import RUNNERS
from fer_search.workflows.export import export

pytestmark = pytest.mark.slow


@pytest.fixture
def model(stored, monkeypatch):
    uri, model = stored
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return model


def test_an_export_says_how_near_and_how_fast_it_is(model, tmp_path, capsys):
    file = tmp_path / "new" / "emotions.onnx"
    export(ExportConfig(output=str(file), model=model))
    said = capsys.readouterr().out
    assert "on 256 synthetic faces no probability differs by more than" in said
    assert "onnx " in said
    answers = RUNNERS["onnx"](file)(np.zeros((2, 48, 48, 1), np.uint8))
    assert answers.sum(axis=1) == pytest.approx([1, 1])
    assert [path.name for path in file.parent.iterdir()] == ["emotions.onnx"]


def test_an_export_that_differs_is_not_kept(model, tmp_path, monkeypatch):
    def wrong(file):
        right = RUNNERS["onnx"](file)
        return lambda faces: right(faces)[:, ::-1]

    monkeypatch.setattr("fer_search.serving.formats.RUNNERS", {"onnx": wrong})
    (tmp_path / "kept.onnx").write_text("an earlier one")
    with pytest.raises(ExportFailed, match=r"allowed: 0\.001"):
        export(ExportConfig(output=str(tmp_path / "kept.onnx"), model=model))
    assert (tmp_path / "kept.onnx").read_text() == "an earlier one"
    assert len(list(tmp_path.glob(".kept*"))) == 0


def test_a_missing_model_and_an_unwritable_output_are_refused(model, tmp_path):
    with pytest.raises(StoreError, match="cannot be loaded"):
        export(ExportConfig(output=str(tmp_path / "m.onnx"), model="models:/none/1"))
    with pytest.raises(DataError, match="cannot be written"):
        export(ExportConfig(output="/dev/null/m.onnx", model=model))


def test_a_network_that_a_converter_cannot_take_is_refused_in_its_words(
    model, tmp_path, monkeypatch
):
    def unable(self, file, **_):
        raise RuntimeError("no operator Strange\nat line 3")

    monkeypatch.setattr("keras.Model.export", unable)
    with pytest.raises(ExportFailed, match=r"converted to tflite: no operator Strange\n"):
        export(ExportConfig(output=str(tmp_path / "m.tflite"), format="tflite", model=model))
    assert list(tmp_path.iterdir()) == []
