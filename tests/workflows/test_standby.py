import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from fer_search.config import SearchConfig, WorkerConfig
from fer_search.processes import environment_with_package
from fer_search.runtime import Device, Gpu
from fer_search.workflows import local_worker, standby
from fer_search.workflows.launcher import launcher_of
from fer_search.workflows.local_worker import shares_to_expect
from fer_search.workflows.standby import Standby

DEVICE = Device(name="CPU", is_gpu=False, backend="jax", precision="float32", n_gpus=0)


def started(standby):
    ((_, process),) = standby._waiting
    assert process.poll() is None
    return psutil.Process(process.pid)


def ends(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.wait(30)
    return not process.is_running()


@pytest.mark.slow
def test_it_becomes_a_worker_that_prints_into_its_log(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient()
    run = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    log = tmp_path / "worker-0.log"
    log.write_text("before\n")
    with Standby([{}]) as standby:
        monkeypatch.delenv("MLFLOW_RUN_ID")  # the search has adopted it
        options = ["--study=none", f"--storage=sqlite:///{tmp_path}/optuna.db"]
        began = standby.begin(options, {}, log)
        assert began.wait(60) == 2
        assert standby.begin([], {}, log) is None
    printed = log.read_text()
    assert printed.startswith("before\nError: there is no study 'none'")
    assert client.get_run(run.info.run_id).data.tags.keys() == run.data.tags.keys(), (
        "the worker took the run of the search for its own"
    )


def test_none_is_started_where_none_is_wanted():
    with Standby(shares_to_expect(SearchConfig(launcher="ray"))) as standby:
        assert not standby._waiting
        assert standby.begin([], {}, Path("never")) is None


def test_it_ends_with_the_context():
    with Standby([{}]) as standby:
        process = started(standby)
    assert ends(process)


def test_a_worker_outlives_the_context(tmp_path):
    with Standby([{}]) as standby:
        began = standby.begin([], {}, tmp_path / "worker-0.log")
    assert began.poll() is None
    began.kill()
    began.wait()


@pytest.mark.slow
def test_it_ends_when_its_search_is_killed():
    code = (
        "import time; from fer_search.workflows.standby import Standby\n"
        "with Standby([{}]) as standby:\n"
        "    print(standby._waiting[0][1].pid, flush=True)\n"
        "    time.sleep(60)"
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
    with Standby([{}]) as standby:
        process = started(standby)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert standby.begin([], {}, tmp_path / "worker-0.log") is None


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_start_that_breaks_off_leaves_none_behind(monkeypatch, error):
    begun = []

    def start(_):
        if begun:
            raise error
        begun.append(subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE))
        return begun[0]

    monkeypatch.setattr(standby, "_start", start)
    with contextlib.suppress(KeyboardInterrupt), Standby([{}, {}]):
        assert error is OSError, "what cannot be had is not missed, but a stop is heeded"
        assert begun[0].poll() is None
    assert begun[0].poll() == -signal.SIGKILL


def test_a_worker_was_told_its_share_before_it_imported(tmp_path):
    shares = [{"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "5"}]
    with Standby(shares) as standby:
        assert standby.begin([], {"OMP_NUM_THREADS": "4"}, tmp_path / "log") is None
        began = standby.begin([], shares[1], tmp_path / "log")
    try:
        assert first_environment(began)["OMP_NUM_THREADS"] == "5"
    finally:
        began.kill()
        began.wait()


def first_environment(process):
    """The environment a process was started with; the system has it shortly after the start."""
    for _ in range(1000):
        if environment := psutil.Process(process.pid).environ():
            return environment
        time.sleep(0.01)
    raise AssertionError("no environment after ten seconds")


def test_a_plain_search_expects_one_worker_with_all_of_the_machine(monkeypatch):
    monkeypatch.setattr(local_worker, "nvidia_gpus", list)
    assert shares_to_expect(SearchConfig()) == [{}]
    assert shares_to_expect(SearchConfig(workers="auto")) == [{}]


def test_no_more_wait_than_there_are_processors_beside_the_search(monkeypatch):
    monkeypatch.setattr(local_worker, "nvidia_gpus", list)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    two = {"OMP_NUM_THREADS": "2", "TF_NUM_INTRAOP_THREADS": "2"}
    assert shares_to_expect(SearchConfig(workers="4")) == [two] * 4
    assert len(shares_to_expect(SearchConfig(workers="20"))) == 7


def test_gpus_are_dealt_out_in_turn(monkeypatch):
    gpus = [Gpu(0, "H100", (9, 0)), Gpu(3, "H100", (9, 0))]
    monkeypatch.setattr(local_worker, "nvidia_gpus", lambda: gpus)  # there is none here
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    shares = shares_to_expect(SearchConfig(workers="auto", trials_per_gpu="2"))
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "3", "0", "3"]


def test_workers_are_those_that_were_expected(tmp_path, monkeypatch):
    monkeypatch.setattr(local_worker, "nvidia_gpus", list)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert begun(tmp_path, asked="3", workers="3") == 3


def test_who_is_not_needed_ends_as_soon_as_the_workers_are_known(tmp_path, monkeypatch):
    gpus = [Gpu(0, "H100", (9, 0))]
    monkeypatch.setattr(local_worker, "nvidia_gpus", lambda: gpus)  # there is none here
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert begun(tmp_path, asked="3", workers="2") == 2, "of three with equal shares"
    assert begun(tmp_path, asked="1", workers="2") == 0, "it was not told its GPU"


def begun(tmp_path, asked, workers):
    """How many workers of a study were on standby, if the command asked for `asked` workers."""
    config = WorkerConfig(study="none", storage=f"sqlite:///{tmp_path}/optuna.db")
    with Standby(shares_to_expect(SearchConfig(workers=asked))) as standby:
        expected = [psutil.Process(process.pid) for _, process in standby._waiting]
        study = SearchConfig(data="synthetic", workers=workers)
        launch = launcher_of(study, None, DEVICE, standby)
        needed = sum(process.is_running() for process in expected)
        pool = launch(config, tmp_path)
        try:
            assert not standby._waiting
            mine = {worker._process.pid for worker in pool._workers.values()}
            assert len(mine) == int(workers)
            assert len(mine & {process.pid for process in expected}) == needed
        finally:
            pool.stop()
    assert all(map(ends, expected))
    return needed
