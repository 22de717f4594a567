"""Processes: whether one is alive, how one ends, and what the kernel did to them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import psutil

STOPPED = 143
"""Exit status of a worker that was told to stop, as of any program ended by SIGTERM."""
SURROUNDINGS = 4
"""Exit status of a process that could not go on for a reason outside the program."""
_PACKAGE = Path(__file__).parents[1]


def is_alive(process: psutil.Process) -> bool:
    """Tell whether `process` (this very one, not a later one with the same ID) still runs."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_kills() -> tuple[str, int]:
    """Count the processes that the kernel has killed because memory ran out, where it tells.

    Returns:
        What is counted, and the count: of this process's cgroup if that is of version 2
        (https://docs.kernel.org/admin-guide/cgroup-v2.html, `memory.events`), else of the machine,
        either since boot; outside Linux always the same.
    """
    with contextlib.suppress(OSError, StopIteration):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        group = next((line[4:] for line in groups if line.startswith("0::/")), "")
        events = Path("/sys/fs/cgroup") / group / "memory.events"
        file = events if events.exists() else Path("/proc/vmstat")
        return f"{boot}:{file}", _counted(file)
    return "unknown", 0


def restart() -> NoReturn:
    """Replace this process with a fresh one of the same ID, command line and output."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "fer_search", *sys.argv[1:]]
    os.execve(sys.executable, command, environment_with_package())


def environment_with_package() -> dict[str, str]:
    """Return this process's environment, in which a child finds this package from any folder."""
    path = os.pathsep.join([str(_PACKAGE), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)}


def _counted(file: Path) -> int:
    """Read the value of `oom_kill` in a file of names and numbers."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next(int(value) for name, value in lines if name == "oom_kill")
