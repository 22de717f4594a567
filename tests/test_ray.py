"""Workers on a real Ray cluster of two nodes on this machine, one of which is lost."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient

from fer_search.config import SearchConfig
from fer_search.errors import StoreError
from fer_search.runtime import Device
from fer_search.workflows.launcher import launcher_of
from fer_search.workflows.standby import Standby

ROOT = Path(__file__).parents[1]
INSTALLED = importlib.util.find_spec("ray") is not None
TRIALS = 4
DEVICE = Device(name="a", is_gpu=False, backend="tensorflow", precision="float32", n_gpus=0)


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="Ray is not installed: requirements-ray.txt")
@pytest.mark.filterwarnings("ignore")
def test_an_address_without_a_cluster_is_refused():
    dead = SearchConfig(launcher="ray", ray_address="127.0.0.1:9", image_sizes="48")
    with pytest.raises(StoreError, match=r"ray_address=127.0.0.1:9(?s:.*)ray start"):
        launcher_of(dead, MlflowClient(), DEVICE, Standby())


@pytest.fixture
def cluster(tmp_path):
    """Two nodes; the second one can be lost."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster, cluster.add_node(num_cpus=1)
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.skipif(not INSTALLED, reason="Ray is not installed: requirements-ray.txt")
@pytest.mark.filterwarnings("ignore")
def test_a_search_is_stopped_resumed_and_outlives_the_loss_of_a_node(cluster, start, tmp_path):
    nodes, second = cluster
    command = [
        sys.executable, "-m", "fer_search", "search", "--study=s", f"--trials={TRIALS}",
        "--launcher=ray", f"--ray_address={nodes.address}", "--workers=2", "--data=synthetic",
        "--limit=1500", "--backbones=tiny", "--weights=none", "--image_sizes=48", "--epochs=12",
        "--pruner=none", "--views=1",
    ]  # fmt: skip
    with (tmp_path / "out.txt").open("w") as out:
        search = start(command, out)
        owners = wait_for(training, search)
        search.terminate()
        assert search.wait(60) == 1
        assert (tmp_path / "out.txt").read_text().endswith("Stopped.\n")
        assert not any(psutil.pid_exists(pid) for pid in owners)
        assert "RUNNING" not in states()
        assert not MlflowClient().search_runs(["0"], "attributes.status = 'RUNNING'")

        search = start(command, out)
        owners = wait_for(lambda: training() if len(training()) == 2 else None, search)
        lost = next(pid for pid in owners if is_below(pid, second))
        nodes.remove_node(second, allow_graceful=False)
        assert search.wait(300) == 0, (tmp_path / "out.txt").read_text()
    assert not psutil.pid_exists(lost)
    assert states() == ["COMPLETE"] * TRIALS
    runs = MlflowClient().search_runs(["0"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == TRIALS + 1


@pytest.fixture
def start():
    """Start a search; it is killed at the end of the test."""
    started = []

    def start(command, out):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def states():
    trials = optuna.load_study(study_name="s", storage="sqlite:///optuna.db").trials
    return [trial.state.name for trial in trials]


def training():
    """Processes that train a trial, after its first epoch."""
    try:
        trials = optuna.load_study(study_name="s", storage="sqlite:///optuna.db").trials
    except Exception:  # not there yet
        return []
    running = [t for t in trials if t.state.name == "RUNNING" and t.intermediate_values]
    return [trial.user_attrs["lease"]["pid"] for trial in running]


def is_below(pid, node):
    """Tell whether a process was started by a node's raylet."""
    raylets = [each.process.pid for each in node.all_processes["raylet"]]
    return any(parent.pid in raylets for parent in psutil.Process(pid).parents())


def wait_for(condition, search, seconds=200):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        assert search.poll() is None, Path("out.txt").read_text()
        time.sleep(0.5)
    pytest.fail(f"waited {seconds} s in vain: {Path('out.txt').read_text()}")
