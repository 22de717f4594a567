import ast
import base64
import io
import resource
import struct
import sys
import types
import zlib

import keras
import numpy as np
import pandas
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from fer_search.config import EMOTIONS, VIEWS
from fer_search.data.images import decode
from fer_search.serving import predictor
from fer_search.serving.package import PREDICTOR

COLUMNS = ["emotion", "probability", *EMOTIONS, "error"]


@pytest.fixture(scope="module")
def served(keras_file):
    return loaded(keras_file)


def loaded(file):
    model = predictor.EmotionPredictor()
    config = {"emotions": list(EMOTIONS), "backend": keras.config.backend()}
    model.load_context(types.SimpleNamespace(artifacts={"model": str(file)}, model_config=config))
    return model


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def file_of(array, file_format="PNG", mode=None, **options):
    image = Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, file_format, **options)
    return file.getvalue()


def text_of(data):
    return base64.b64encode(data).decode()


def ask(served, *cells, index=None):
    return served.predict(None, pandas.DataFrame({"image": list(cells)}, index, dtype=object))


def probabilities(table):
    return table[list(EMOTIONS)].to_numpy(float)


def header_only(width, height):
    """A PNG of a few bytes whose header announces an image of this size."""
    chunks = {
        b"IHDR": struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0),
        b"IDAT": b"",
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def test_answers_are_those_of_the_network(served, network):
    images = pixels(300, 48, 48)  # more than one batch
    expected = network.predict(images[..., np.newaxis], verbose=0)
    answers = served.predict_images(images)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_the_numbers_of_views_are_those_of_the_config():
    assert predictor.VIEWS == VIEWS


def test_views_are_the_image_its_mirror_image_and_both_shifted_to_the_corners():
    images = pixels(2, 48, 48)
    views = list(predictor.each_view(images, 10))
    assert all(view.shape == images.shape for view in views)
    for view, mirrored in zip(views[::2], views[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, view[..., ::-1])
    np.testing.assert_array_equal(views[0], images)
    middle = slice(4, -4)
    shifts = [(4, 4), (4, -4), (-4, 4), (-4, -4)]
    for view, shift in zip(views[2::2], shifts, strict=True):
        expected = np.roll(images, shift, axis=(1, 2))
        np.testing.assert_array_equal(view[:, middle, middle], expected[:, middle, middle])
    assert len({view.tobytes() for view in views}) == 10


@pytest.mark.parametrize("views", predictor.VIEWS)
def test_probabilities_are_averaged_over_views(served, network, views):
    images = pixels(5, 48, 48)
    each = [
        network.predict(view[..., np.newaxis], verbose=0)
        for view in predictor.each_view(images, views)
    ]
    answers = served.predict_images(images, views)
    np.testing.assert_allclose(answers, np.mean(each, axis=0), atol=1e-6)


def test_with_both_views_a_mirror_image_is_the_same_face(served):
    images = pixels(5, 48, 48)
    np.testing.assert_allclose(
        served.predict_images(images, 2), served.predict_images(images[..., ::-1], 2), atol=1e-6
    )


def test_other_numbers_of_views_are_refused(served):
    with pytest.raises(ValueError, match="got 3"):
        served.predict_images(pixels(1, 48, 48), 3)
    with pytest.raises(MlflowException, match="views=3: expected 1 or 2 or 10"):
        served.predict(None, pandas.DataFrame({"image": []}), {"views": 3})


@pytest.mark.parametrize("shape", [(0, 48, 48), (0, 20, 30, 3)])
def test_no_image_has_no_answer(served, shape):
    assert served.predict_images(np.zeros(shape, np.uint8)).shape == (0, 7)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(np.zeros((2, 48, 48)), id="float"),
        pytest.param(np.zeros((48, 48), np.uint8), id="one_image"),
        pytest.param(np.zeros((2, 48, 48, 4), np.uint8), id="four_channels"),
        pytest.param(np.zeros((2, 0, 48), np.uint8), id="no_rows"),
    ],
)
def test_other_arrays_are_refused_with_their_shape_and_type(served, images):
    with pytest.raises(ValueError, match="uint8") as caught:
        served.predict_images(images)
    assert f"got {images.shape} in {images.dtype}" in str(caught.value)


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 3), (100, 60), (60, 100, 3), (9, 7, 3)])
def test_a_table_is_answered_like_the_arrays_in_it(served, shape):
    array = pixels(*shape)
    table = ask(served, text_of(file_of(array)))
    expected = served.predict_images(array[np.newaxis])
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-6)
    assert table["emotion"][0] == EMOTIONS[expected[0].argmax()]
    assert table["probability"][0] == pytest.approx(expected[0].max())
    assert table["error"][0] is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file_of(pixels(80, 60, 3), "JPEG"), id="jpeg"),
        pytest.param(file_of(pixels(80, 60), "JPEG"), id="grey_jpeg"),
        pytest.param(file_of(pixels(80, 60, 3), "JPEG", "CMYK"), id="cmyk"),
        pytest.param(file_of(pixels(80, 60, 3), "PNG", "P"), id="palette"),
        pytest.param(file_of(pixels(80, 60, 4)), id="transparent"),
        pytest.param(file_of(pixels(80, 60), mode="1"), id="one_bit"),
        pytest.param(file_of(pixels(80, 60).astype(np.uint16) * 257), id="sixteen_bit"),
    ],
)
def test_files_are_seen_as_in_training(served, data):
    seen = served.predict_images(decode(data)[np.newaxis])
    np.testing.assert_allclose(probabilities(ask(served, text_of(data))), seen, atol=1e-6)


def test_an_image_is_turned_upright(served):
    array = pixels(48, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    table = ask(served, text_of(file_of(array, exif=exif)))
    upright = served.predict_images(np.rot90(array, -1)[np.newaxis])
    np.testing.assert_allclose(probabilities(table), upright, atol=1e-6)


def test_text_may_have_a_data_prefix_and_line_breaks(served):
    text = text_of(file_of(pixels(48, 48)))
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    table = ask(served, text, f"data:image/png;base64,{text}", wrapped)
    assert table["error"].isna().all()
    assert len(np.unique(probabilities(table), axis=0)) == 1


def test_bad_rows_have_a_reason_and_leave_the_others_their_answer(served):
    good = text_of(file_of(pixels(48, 48)))
    damaged = text_of(file_of(pixels(48, 48, 3), "JPEG")[:-900])
    gif = text_of(file_of(pixels(48, 48), "GIF"))
    index = ["a", "b", "c", "d", "e", "f", "g"]
    table = ask(served, "/etc/passwd", good, None, 3, damaged, gif, good, index=index)
    assert list(table.columns) == COLUMNS
    assert list(table.index) == index
    assert list(table["error"].isna()) == [False, True, False, False, False, False, True]
    reasons = ["not the base64", "got None", "got 3", "not a readable JPEG", "not a readable JPEG"]
    for row, reason in zip("acdef", reasons, strict=True):
        assert reason in table["error"][row]
        assert all(value is None for value in table.loc[row, COLUMNS[:-1]])
    answers = table.loc[["b", "g"]]
    np.testing.assert_allclose(
        answers["probability"].to_numpy(float), probabilities(answers).max(1)
    )


def test_good_rows_alone_are_numbers(served):
    table = ask(served, text_of(file_of(pixels(48, 48))))
    assert all(table[name].dtype == float for name in ("probability", *EMOTIONS))


def test_no_row_is_no_error(served):
    table = ask(served)
    assert list(table.columns) == COLUMNS
    assert table.empty


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image": ["rubbish", None]}, "none of the 2 rows is an image; the first one: not the"),
        ({"photo": ["rubbish"]}, "expected a column 'image', got photo"),
        ({}, "expected a column 'image', got none"),
    ],
)
def test_a_table_without_images_is_the_fault_of_the_client(served, table, message):
    with pytest.raises(MlflowException, match=message) as caught:
        served.predict(None, pandas.DataFrame(table))
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    "side",
    [
        pytest.param(6_400, id="above_ours"),
        pytest.param(10_000, id="where_pillow_warns"),
        pytest.param(60_000, id="where_pillow_refuses"),
    ],
)
def test_a_bomb_is_refused_before_it_is_decoded(served, side):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    good = text_of(file_of(pixels(48, 48)))
    table = ask(served, text_of(header_only(side, side)), good)
    assert table["error"][0] == "the image has more than 40,000,000 pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB


def test_a_text_without_end_is_refused_before_it_is_decoded(served):
    good = text_of(file_of(pixels(48, 48)))
    table = ask(served, "A" * (predictor.LONGEST_TEXT + 1), good)
    assert table["error"][0] == "the text has 28,000,001 characters, more than 28,000,000"


@pytest.mark.parametrize(
    ("shape", "answers"),
    [((48, 48, 3), 7), ((48, 40, 1), 7), ((48, 48, 1), 6)],
    ids=["colour", "not_square", "six_classes"],
)
def test_another_kind_of_network_is_refused(tmp_path, shape, answers):
    inputs = keras.Input(shape)
    outputs = keras.layers.Dense(answers)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"expected a model from \(N, S, S, 1\) to \(N, 7\)"):
        loaded(tmp_path / "model.keras")


def test_the_predictor_needs_nothing_but_public_packages():
    imported = set()
    for node in ast.walk(ast.parse(PREDICTOR.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == {"PIL", "keras", "mlflow", "numpy", "pandas"}
