import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fer_search.processes import is_alive, memory_kills

ROOT = Path(__file__).parents[1]


def test_a_zombie_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    assert is_alive(process)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
    assert not is_alive(process)
    child.wait()
    assert not is_alive(process)


@pytest.fixture
def tight():
    """A version 1 cgroup whose processes share 64 MiB."""
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


def test_a_process_restarts_with_its_number_and_its_command():
    code = (
        "import os, sys; from fer_search.processes import restart; "
        "print(os.getpid()); sys.argv[1:] = ['worker', '-h']; os.chdir('/'); restart()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    number, _, printed = child.communicate()[0].partition("\n")
    assert int(number) == child.pid
    assert child.returncode == 0
    assert "Join a study" in printed
