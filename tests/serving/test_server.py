"""The stored model behind MLflow's own server and command line, in their own processes."""

import base64
import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from fer_search.config import EMOTIONS
from fer_search.serving import package
from fer_search.tracking import aliases, registry, store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MODEL = "models:/fer-emotion@champion"


@pytest.fixture(scope="module")
def world(keras_file, tmp_path_factory):
    """Environment and folder of a store whose champion is a small model."""
    folder = tmp_path_factory.mktemp("served")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(folder)
        client = store.connect()
        run = store.begin_run(client, "s", {})
        model_id = package.log_model(
            client, run_id=run.info.run_id, experiment_id="0", keras_file=keras_file, name="m",
            params={}, tags={},
        )  # fmt: skip
        registry.register(client, "fer-emotion", model_id=model_id, run_id=run.info.run_id, tags={})
        aliases.set_champion(client, "fer-emotion", "1")
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"MLFLOW_TRACKING_URI": uri, "PATH": paths}, folder


@pytest.fixture(scope="module")
def server(world):
    """A running `mlflow models serve`: its process and its port."""
    environment, folder = world
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", MODEL, "--env-manager", "local", "-p", str(port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.5)
        yield process, port
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.terminate()
        process.wait()


def ask(server, *cells, **more):
    """Send images to the server; return its status and answer."""
    body = json.dumps({"dataframe_records": [{"image": cell} for cell in cells]} | more).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server[1]}/invocations", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def text_of(data):
    return base64.b64encode(data).decode()


def png(seed, size=(48, 48)):
    pixels = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return text_of(file.getvalue()), pixels


def bomb(side):
    """A PNG of some kilobytes whose header announces side x side pixels."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    return text_of(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_images_are_answered_each_for_itself(server, network):
    (first, pixels), (second, _) = png(1), png(2)
    status, answer = ask(server, first, "no image", second, None)
    assert status == 200
    good, bad, other, missing = answer["predictions"]
    expected = network.predict(pixels[None, ..., None], verbose=0)[0]
    assert [good[name] for name in EMOTIONS] == pytest.approx(expected.tolist(), abs=1e-4)
    assert good["emotion"] == EMOTIONS[expected.argmax()]
    assert good["error"] is None
    assert other["error"] is None
    for row in (bad, missing):
        assert row["emotion"] is None
        assert row["happy"] is None
        assert row["error"]


def test_views_are_a_parameter(server):
    (cell, pixels), mirrored = png(3), None
    file = io.BytesIO()
    Image.fromarray(pixels[:, ::-1].copy()).save(file, "PNG")
    mirrored = text_of(file.getvalue())
    _, answer = ask(server, cell, mirrored, params={"views": 2})
    one, other = answer["predictions"]
    assert [one[name] for name in EMOTIONS] == pytest.approx([other[name] for name in EMOTIONS])


@pytest.mark.parametrize("cells", [["no image"], ["x", "y"]])
def test_if_no_row_is_an_image_the_caller_is_to_blame_and_sees_no_stack(server, cells):
    status, answer = ask(server, *cells)
    assert status == 400
    assert "is an image" in answer["message"]
    assert "Traceback" not in json.dumps(answer)


def test_another_column_is_the_callers_fault_too(server):
    body = json.dumps({"dataframe_records": [{"path": "/etc/passwd"}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server[1]}/invocations", body, {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 400
    assert "root:" not in refused.value.read().decode()


def test_bombs_and_monsters_are_refused_in_bounded_memory(server):
    process = psutil.Process(server[0].pid)

    def resident():
        return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])

    good, _ = png(4)
    ask(server, good)
    before = resident()
    for monster in (bomb(60_000), bomb(10_000), "A" * 40_000_000):
        status, answer = ask(server, good, monster)
        assert status == 200
        assert answer["predictions"][0]["error"] is None
        assert answer["predictions"][1]["error"]
    assert resident() - before < 500e6


def test_mlflow_models_predict_answers_a_csv(world, network, tmp_path):
    environment, folder = world
    cell, pixels = png(5)
    (tmp_path / "faces.csv").write_text(f"image\n{cell}\n")
    command = [
        "mlflow", "models", "predict", "-m", MODEL, "--env-manager", "local",
        "-i", str(tmp_path / "faces.csv"), "-t", "csv", "-o", str(tmp_path / "emotions.json"),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "emotions.json").read_text())["predictions"]
    expected = network.predict(pixels[None, ..., None], verbose=0)[0]
    assert [row[name] for name in EMOTIONS] == pytest.approx(expected.tolist(), abs=1e-4)
