import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from fer_search.config import SearchConfig
from fer_search.processes import environment_with_package
from fer_search.runtime import Device
from fer_search.workflows.launcher import launcher_of
from fer_search.workflows.standby import Standby

DEVICE = Device(name="CPU", is_gpu=False, backend="jax", precision="float32", n_gpus=0)


def started(standby):
    assert standby._process.poll() is None
    return psutil.Process(standby._process.pid)


def ends(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(60)  # one whose search was killed imports first
    return not process.is_running()


@pytest.mark.slow
def test_it_becomes_a_worker_that_prints_into_its_log(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient()
    run = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    log = tmp_path / "worker-0.log"
    log.write_text("before\n")
    with Standby() as standby:
        monkeypatch.delenv("MLFLOW_RUN_ID")  # the search has adopted it
        began = standby.begin(["--study=none", f"--storage=sqlite:///{tmp_path}/optuna.db"], log)
        assert began.wait(60) == 2
        assert standby.begin([], log) is None
    printed = log.read_text()
    assert printed.startswith("before\nError: there is no study 'none'")
    assert client.get_run(run.info.run_id).data.tags.keys() == run.data.tags.keys(), (
        "the worker took the run of the search for its own"
    )


def test_none_is_started_where_none_is_wanted():
    with Standby(is_wanted=False) as standby:
        assert standby._process is None
        assert standby.begin([], Path("never")) is None


def test_it_ends_with_the_context():
    with Standby() as standby:
        process = started(standby)
    assert ends(process)


def test_a_worker_outlives_the_context(tmp_path):
    with Standby() as standby:
        began = standby.begin([], tmp_path / "worker-0.log")
    assert began.poll() is None
    began.kill()
    began.wait()


@pytest.mark.slow
def test_it_ends_when_its_search_is_killed():
    code = (
        "import time; from fer_search.workflows.standby import Standby\n"
        "with Standby() as standby: print(standby._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment_with_package(),
        stdout=subprocess.PIPE,
        text=True,
    ) as search:
        process = psutil.Process(int(search.stdout.readline()))
        search.kill()
    assert ends(process)


def test_one_that_has_died_is_not_begun(tmp_path):
    with Standby() as standby:
        os.kill(standby._process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, standby._process.pid, os.WEXITED | os.WNOWAIT)
        assert standby.begin([], tmp_path / "worker-0.log") is None


def test_several_workers_are_told_their_share_before_they_import():
    with Standby() as standby:
        process = started(standby)
        launcher_of(SearchConfig(data="synthetic", workers="2"), None, DEVICE, standby)
        assert ends(process)
