import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


STOPPING = """
import sys, time, psutil
from fer_search.stops import stop_on_signals, stop_with
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
from fer_search.stops import stop_on_signals
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


def test_a_signal_after_the_work_changes_nothing():
    late = """
import os, signal
from fer_search.stops import stop_on_signals
stop_on_signals()
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
late = Late()
"""
    assert subprocess.run([sys.executable, "-c", late], cwd=ROOT, check=False).returncode == 0
