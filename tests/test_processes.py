import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fer_search.processes import (
    Launch,
    find_launch,
    is_alive,
    is_mlflow_run,
    memory_kills,
    mlflow_prefix,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("mlflow run . -P trials=50", "mlflow run ."),
        ("mlflow run . -e demo -P a=1 --env-manager uv", "mlflow run . --env-manager uv"),
        ("mlflow run --env-manager=local . -Pa=1", "mlflow run --env-manager=local ."),
        ("mlflow run git@host:x.git -v main --run-name x", "mlflow run git@host:x.git -v main"),
    ],
)
def test_later_commands_keep_what_they_need(typed, kept):
    assert mlflow_prefix(typed.split()) == tuple(kept.split())


def test_commands_are_worded_as_they_were_typed():
    direct = Launch(Path(), None, ("python", "-m", "fer_search"))
    assert direct.command("search", study="a b") == "python -m fer_search search '--study=a b'"
    launched = Launch(Path(), psutil.Process(), ("mlflow", "run", "."))
    assert launched.command("search", study="s") == "mlflow run . -P study=s"
    assert launched.command("promote", version=3) == "mlflow run . -e promote -P version=3"


def test_the_launcher_is_found_above_the_shell(tmp_path):
    code = (
        "from fer_search.processes import find_launch; launch = find_launch(); "
        "print(launch.mlflow.pid, launch.directory)"
    )
    inner = f"cd / && MLFLOW_RUN_ID=x PYTHONPATH={ROOT} {sys.executable} -c '{code}'; true"
    launcher = tmp_path / "mlflow"
    launcher.write_text(
        f"import os, subprocess\nprint(os.getpid(), flush=True)\n"
        f"subprocess.run(['bash', '-c', {inner!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, launcher, "run", "."], capture_output=True, text=True, check=True
    )
    pid, found, folder = done.stdout.split()
    assert (found, folder) == (pid, str(Path.cwd()))


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("/usr/bin/python /x/bin/mlflow run . -P a=1", True),
        ("mlflow run .", True),
        ("python -m mlflow run .", True),
        ("tmux new", False),
        ("make run test", False),
        ("python notebook.py", False),
    ],
)
def test_only_mlflow_run_is_a_launcher(typed, answer):
    assert is_mlflow_run(typed.split()) == answer


def test_without_mlflow_nobody_launched_us():
    launch = find_launch()
    assert (launch.mlflow, launch.directory) == (None, Path.cwd())


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    assert is_alive(process)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
    assert not is_alive(process)
    child.wait()
    assert not is_alive(process)


STOPPING = """
import sys, time, psutil
from fer_search.processes import stop_on_signals, stop_with
stop_on_signals()
if sys.argv[1:]:
    stop_with(psutil.Process(int(sys.argv[1])))
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("tidying", flush=True)
    time.sleep(1)
    print("tidy")
"""


def start(*arguments, before=None):
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPING, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=before,
    )  # fmt: skip
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_break_off_the_tidying(number):
    with start() as child:
        child.send_signal(number)
        assert child.stdout.readline() == "tidying\n"
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "tidy\n"
    assert child.returncode == 0


def test_nohup_protects():
    with start(before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as child:
        child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.send_signal(signal.SIGTERM)
        assert child.stdout.read() == "tidying\ntidy\n"


def test_a_stop_that_python_loses_in_finalizers_is_raised_again():
    lost = """
import os, signal, time
from fer_search.processes import stop_on_signals
stop_on_signals()
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # the second time, the stop is raised again here
        print("never said")
try:
    Finalized()
    Finalized()
    print("lost")
    time.sleep(20)
except KeyboardInterrupt:
    print("tidying")
    time.sleep(1)
    print("tidy")
"""
    done = subprocess.run(
        [sys.executable, "-c", lost], cwd=ROOT, check=False, capture_output=True, text=True,
        timeout=15,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("lost\ntidying\ntidy\n", "")
    assert done.returncode == 0


def test_a_process_stops_with_the_one_it_belongs_to():
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with start(str(owner.pid)) as child:
        owner.kill()
        owner.communicate()
        assert child.stdout.read() == "tidying\ntidy\n"


@pytest.fixture
def tight():
    """A cgroup of version 1 whose processes share 64 MiB."""
    group = Path(f"/sys/fs/cgroup/memory/fer-search-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 * 2**20))
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield group
    group.rmdir()


def test_what_the_kernel_kills_for_memory_is_counted(tight):
    where, before = memory_kills()
    greedy = (
        "import sys; input(); kept = bytearray(2 ** 28)\n"
        "for place in range(0, len(kept), 4096): kept[place] = 1"
    )
    child = subprocess.Popen([sys.executable, "-c", greedy], stdin=subprocess.PIPE, text=True)
    (tight / "cgroup.procs").write_text(str(child.pid))
    child.communicate("\n")
    assert child.returncode == -signal.SIGKILL
    assert memory_kills() == (where, before + 1)


def test_a_process_begins_anew_with_its_number_and_its_command():
    code = (
        "import os, sys; from fer_search.processes import begin_anew; "
        "print(os.getpid()); sys.argv[1:] = ['worker', '-h']; os.chdir('/'); begin_anew()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    number, _, printed = child.communicate()[0].partition("\n")
    assert int(number) == child.pid
    assert child.returncode == 0
    assert "Join a study" in printed


def test_a_signal_after_the_work_changes_nothing():
    late = """
import os, signal
from fer_search.processes import stop_on_signals
stop_on_signals()
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
late = Late()
"""
    assert subprocess.run([sys.executable, "-c", late], cwd=ROOT, check=False).returncode == 0
