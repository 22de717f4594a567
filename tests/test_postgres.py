"""Many workers on one PostgreSQL server, which these tests start themselves."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest
import requests
from mlflow import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[1]
WORKERS, TRIALS = 4, 5


def program(name):
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(places[-1]) if places else None)


@pytest.fixture(scope="module")
def database():
    """Address of an empty database server, run by an ordinary user in a temporary folder."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: requirements-postgres.txt")
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    shutil.chown(folder, user)
    as_user = {"cwd": folder, "user": user} if os.geteuid() == 0 else {"cwd": folder}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = subprocess.run(
        [program("initdb"), "-D", folder / "data", "-U", "fer", "-A", "trust", "-E", "UTF8"],
        capture_output=True, text=True, **as_user,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [
                program("postgres"), "-D", folder / "data", "-p", str(port), "-k", folder,
                "-h", "127.0.0.1", "-c", "fsync=off",
            ],
            stdout=log, stderr=log, **as_user,
        )  # fmt: skip
        try:
            address = f"postgresql+psycopg://fer@127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while subprocess.run(
                [program("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "fer", "runs"],
                capture_output=True,
            ).returncode:
                assert server.poll() is None, (folder / "log.txt").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.5)
            yield address
        finally:
            server.send_signal(signal.SIGINT)  # do not wait for open connections
            server.wait(30)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tracking(database, tmp_path_factory):
    """Address of an MLflow server on that PostgreSQL server; artifacts go through it."""
    folder = tmp_path_factory.mktemp("tracking")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1",
                f"--backend-store-uri={database}/runs", f"--artifacts-destination={folder}/files",
            ],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while not answers(f"{address}/health"):
        assert server.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    yield address
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def answers(url):
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_four_workers_share_a_study_on_postgresql(database, tracking, monkeypatch, tmp_path):
    storage = f"{database}/postgres"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    done = subprocess.run(
        [
            sys.executable, "-m", "fer_search", "search", f"--storage={storage}", "--study=s",
            f"--trials={TRIALS}", f"--workers={WORKERS}", "--data=synthetic", "--limit=70",
            "--backbones=tiny", "--weights=none", "--image_sizes=48", "--epochs=1",
            "--pruner=none", "--views=1",
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    opened = optuna.storages.RDBStorage(storage)
    trials = optuna.load_study(study_name="s", storage=opened).trials
    opened.engine.dispose()  # psycopg warns about unclosed connections
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * TRIALS
    assert len(list(tmp_path.rglob("worker-*.log"))) == WORKERS
    client = MlflowClient()
    children = [r for r in client.search_runs(["0"]) if "optuna.trial_number" in r.data.tags]
    assert {run.info.status for run in children} == {"FINISHED"}
    numbers = [int(run.data.tags["optuna.trial_number"]) for run in children]
    assert sorted(numbers) == list(range(TRIALS))
    assert len(client.search_model_versions("name='fer-emotion'")) == TRIALS
    files = {file.path for file in client.list_artifacts(children[0].info.run_id)}
    assert "confusion_matrix.png" in files
    assert not list(tmp_path.rglob("confusion_matrix.png")), "it went to the server"
