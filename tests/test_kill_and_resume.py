"""Real processes and real signals: whatever is killed, the printed command resumes the search."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
import requests
from filelock import FileLock
from mlflow import MlflowClient

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TRIALS = 2
SMALL = {
    "trials": TRIALS, "data": "synthetic", "limit": 300, "backbones": "tiny", "weights": "none",
    "image_sizes": 48, "epochs": 18, "study": "s", "pruner": "none", "sampler": "random",
    "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """One folder for all processes of this pytest run."""
    of_run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = tmp_path_factory.getbasetemp().parent / f"kill-and-resume-{of_run}"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def faces(common):
    """One cache of synthetic faces for all tests here."""
    return common / "faces"


@pytest.fixture
def search(tmp_path, faces):
    """Start a search in its own process group; whatever it starts is killed after the test."""
    started = []

    def start(*command, **options):
        command = command or (sys.executable, "-m", "fer_search", "search")
        mark = "-P" if command[0] == "mlflow" else None
        for name, value in (SMALL | options).items():
            command += (mark, f"{name}={value}") if mark else (f"--{name}={value}",)
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(faces), "PATH": paths,
        }  # fmt: skip
        with (tmp_path / "out.txt").open("a") as out:
            process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        for each in family(process.pid):
            each.kill()
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(common, faces):
    """Numbers of the same search when nothing is killed."""
    with FileLock(common / "lock"):
        store = f"sqlite:///{common}/mlflow.db"
        options = [f"--{name}={value}" for name, value in SMALL.items()]
        if not (common / "mlflow.db").exists():
            subprocess.run(
                [sys.executable, "-m", "fer_search", "search", *options],
                cwd=common, check=True, capture_output=True,
                env=os.environ | {
                    "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(faces),
                    "MLFLOW_TRACKING_URI": store,
                },
            )  # fmt: skip
        return numbers(MlflowClient(store))


def numbers(client):
    """All metrics of the trials' epochs except speed, by trial, name and epoch."""
    return {
        (run.data.tags["optuna.trial_number"], name, metric.step): metric.value
        for run in client.search_runs(["0"])
        if "optuna.trial_number" in run.data.tags
        for name in run.data.metrics
        if name.startswith("epoch/") and name != "epoch/images_per_second"
        for metric in client.get_metric_history(run.info.run_id, name)
    }


def family(pid):
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(pid):
    return [p for p in family(pid) if "worker" in p.cmdline()]


def trials():
    try:
        return optuna.load_study(study_name="s", storage="sqlite:///optuna.db").trials
    except Exception:  # not there yet
        return []


def wait_for(condition, seconds=120):
    deadline = time.time() + seconds
    while time.time() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    pytest.fail(f"waited {seconds} s in vain:\n{Path('out.txt').read_text()[-3000:]}")


def epochs_reported(number=0):
    """Epochs of a trial, 0 if it is not running; the first, a good point, trains for 17."""
    running = [t for t in trials() if t.number == number and t.state.name == "RUNNING"]
    return len(running[0].intermediate_values) if running else 0


def mid_trial(process, number=0, after=0):
    """Wait until a trial has reported more than `after` epochs, and return the workers."""
    wait_for(lambda: epochs_reported(number) > after)
    return workers(process.pid)


def assert_resumed():
    """Assert that a stopped trial was resumed from its checkpoint."""
    runs = MlflowClient().search_runs(["0"])
    assert max(int(run.data.tags.get("fer.resumed_after_epoch", 0)) for run in runs) >= 1


def assert_whole(undisturbed):
    """Assert N trials, none RUNNING, one tree of runs, each model once, and undisturbed numbers."""
    client = MlflowClient()
    assert numbers(client) == undisturbed
    finished = [t for t in trials() if t.state.name in ("COMPLETE", "PRUNED")]
    assert len(finished) == TRIALS
    assert not [t for t in trials() if t.state.name == "RUNNING"]
    assert len({json.dumps(t.params, sort_keys=True) for t in finished}) == TRIALS
    runs = client.search_runs(["0"])
    assert not [run.info.run_name for run in runs if run.info.status == "RUNNING"]
    (study_run,) = [run for run in runs if "test_macro_f1" in run.data.metrics]
    assert study_run.info.status == "FINISHED"
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {study_run.info.run_id}
    assert len({run.data.tags["optuna.trial_number"] for run in children}) == len(children)
    for run in children:
        history = client.get_metric_history(run.info.run_id, "epoch/val_macro_f1")
        steps = [metric.step for metric in history]
        assert steps == sorted(set(steps)), "an epoch was logged twice"
    versions = client.search_model_versions("name='fer-emotion'")
    complete = [t for t in finished if t.state.name == "COMPLETE"]
    assert len(versions) == len({v.run_id for v in versions}) == len(complete)


def interrupted(process):
    stopped_in_order(process, signal.SIGINT)


def told_to_stop(process):
    stopped_in_order(process, signal.SIGTERM)


def stopped_in_order(process, number):
    mine = workers(process.pid)
    process.send_signal(number)
    assert process.wait(60) == 1
    assert "Finished work is kept. To resume:\n  python -m fer_search search" in output()
    assert output().endswith("Stopped.\n")
    assert "Traceback" not in output()
    wait_for(lambda: not [w for w in mine if w.is_running()], 30)
    assert not [t for t in trials() if t.state.name == "RUNNING"]
    assert not MlflowClient().search_runs(["0"], "attributes.status = 'RUNNING'")


def killed(process):
    """Kill the search; its workers notice, give back their trials, and end."""
    mine = workers(process.pid)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    wait_for(lambda: not [w for w in mine if w.is_running()], 30)


def killed_with_all_at_once(process):
    for each in [*workers(process.pid), psutil.Process(process.pid)]:
        each.kill()
    process.wait()


def test_however_a_search_is_stopped_it_ends_as_an_undisturbed_one(search, undisturbed):
    process, reported = search(), 0
    for stop in (interrupted, told_to_stop, killed, killed_with_all_at_once):
        (worker,) = mid_trial(process, after=reported)
        assert "fer_search.workflows.standby" in worker.cmdline(), "it did not import meanwhile"
        reported = epochs_reported()
        stop(process)
        resume = re.findall(r"resume it after a stop:\n\s+python -m fer_search (.+)", output())[-1]
        process = search(sys.executable, "-m", "fer_search", *resume.split())
    (worker,) = mid_trial(process, after=reported)
    worker.kill()  # another one takes its place
    assert process.wait(200) == 0, output()
    assert_resumed()
    assert_whole(undisturbed)
    assert trials()[0].user_attrs["takeovers"] == 2


def test_a_killed_launcher_takes_the_search_along(search, undisturbed):
    command = ("mlflow", "run", str(ROOT), "--env-manager", "local")
    process = search(*command)
    mid_trial(process, number=1)
    below = family(process.pid)
    process.kill()
    wait_for(lambda: not [p for p in below if p.is_running() and p.status() != "zombie"], 60)
    assert len([t for t in trials() if t.state.name == "COMPLETE"]) < TRIALS, "it went on"
    assert not [t for t in trials() if t.state.name == "RUNNING"]
    assert search(*command).wait(200) == 0
    assert_resumed()
    assert_whole(undisturbed)


def test_what_a_dead_worker_had_not_delivered_is_delivered(search, undisturbed):
    process = search()
    wait_for(lambda: trials() and trials()[0].state.name == "COMPLETE")
    with contextlib.closing(sqlite3.connect("mlflow.db", timeout=60)) as database:
        database.execute("BEGIN EXCLUSIVE")  # its delivery has to wait
        wait_for(lambda: [t for t in trials() if t.state.name == "RUNNING"])
        killed_with_all_at_once(process)
        database.rollback()
    spool = Path(os.environ["XDG_STATE_HOME"], "fer_search", "spool")
    assert list(spool.glob("*/trial-000")), "it had been delivered already"
    assert search().wait(200) == 0, output()
    assert_whole(undisturbed)


@pytest.fixture
def server(tmp_path):
    """An address, and a function that starts MLflow's server there on this test's store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start():
        with (tmp_path / "server.txt").open("a") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1",
                    f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db",
                    f"--default-artifact-root={tmp_path}/mlruns",
                ],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"))
        return process

    yield f"http://127.0.0.1:{port}", start
    for process in started:
        kill_family(process)


def answers(url):
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def kill_family(process):
    for each in [*family(process.pid), process]:
        each.kill()
    process.wait()


def test_a_tracking_server_that_is_away_for_a_while_loses_nothing(
    search, undisturbed, server, monkeypatch
):
    address, start = server
    first = start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    process = search()
    mid_trial(process)
    kill_family(first)
    mid_trial(process, after=epochs_reported())  # training continues meanwhile
    start()
    assert process.wait(200) == 0
    assert numbers(MlflowClient()) == undisturbed
    for run in MlflowClient().search_runs(["0"], "tags.`optuna.trial_number` = '1'"):
        history = MlflowClient().get_metric_history(run.info.run_id, "epoch/val_macro_f1")
        assert [metric.step for metric in history] == sorted({metric.step for metric in history})
        times = [metric.timestamp for metric in history]
        assert times == sorted(set(times)), "those that waited have the times at which they ended"


def output():
    return Path("out.txt").read_text()
