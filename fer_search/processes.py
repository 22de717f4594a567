"""Processes: who started this one, whether another lives, and how an orderly stop is asked for.

`mlflow run` starts this program through a shell, may do so in a temporary checkout, and does not
pass on a SIGTERM of its own. So the program looks up its launcher: relative paths are meant from
there, and when it ends the search ends too.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import functools
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import psutil

STOPPED = 143
"""Exit status of a worker that was told to stop, as of any program ended by SIGTERM."""
SURROUNDINGS = 4
"""Exit status of a process that could not go on for a reason outside the program."""
STOP_SECONDS = 20
"""An orderly stop that takes longer is broken off."""
_MOMENT = 0.2
"""Seconds after which a stop that got lost is raised again."""

_stops: collections.deque[float] = collections.deque()
"""When a stop was asked for that nobody has heeded; without a lock, for signal handlers."""
_SPARED = {getattr(signal, "SIGHUP", None)}
"""Signals that a process may be told to ignore from its start."""
_PACKAGE = Path(__file__).parents[1]
_SHELLS = {"sh", "bash", "dash", "zsh", "cmd.exe", "sh.exe", "bash.exe"}


@dataclasses.dataclass(frozen=True)
class Launch:
    """Who started this command, and how to word the next one."""

    directory: Path
    """Where the person typed the command."""
    mlflow: psutil.Process | None
    """The `mlflow run` above this process, if there is one."""
    prefix: tuple[str, ...]
    """`mlflow run .` with its own options, or `python -m fer_search`."""

    def command(self, name: str, **parameters: Any) -> str:
        """Spell the command `name` with `parameters`, to be pasted into the same shell."""
        if not self.mlflow:
            options = (f"--{key}={value}" for key, value in parameters.items())
            return shlex.join([*self.prefix, name, *options])
        entry = [] if name == "search" else ["-e", name]
        options = (part for key, value in parameters.items() for part in ("-P", f"{key}={value}"))
        return shlex.join([*self.prefix, *entry, *options])


def find_launch() -> Launch:
    """Find out how this process was started."""
    direct = Launch(Path.cwd(), None, ("python", "-m", "fer_search"))
    if "MLFLOW_RUN_ID" not in os.environ:
        return direct
    try:
        above = psutil.Process().parents()
        starter = next(process for process in above if process.name() not in _SHELLS)
        arguments = starter.cmdline()
        if not is_mlflow_run(arguments):
            return direct
        return Launch(Path(starter.cwd()), starter, mlflow_prefix(arguments))
    except (StopIteration, psutil.Error):
        return direct


def is_mlflow_run(arguments: list[str]) -> bool:
    """Tell whether a command line is `mlflow run …`, by its program or as a Python module."""
    before, found, _ = (" ".join(arguments)).partition(" run ")
    return bool(found) and before.split()[-1].endswith(("mlflow", "mlflow.exe", "mlflow.cli"))


def mlflow_prefix(arguments: list[str]) -> tuple[str, ...]:
    """Keep of `mlflow run . -e demo -P a=b --env-manager uv` what every later command needs.

    Args:
        arguments: The launcher's command line.
    """
    once = ("-P", "--param-list", "-e", "--entry-point", "--run-name")
    kept = ["mlflow", "run"]
    rest = iter(arguments[arguments.index("run") + 1 :])
    for part in rest:
        if part in once:
            next(rest, None)
        elif not part.startswith(("-P", *(f"{name}=" for name in once[1:]))):
            kept.append(part)
    return tuple(kept)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether `process` (this very one, not a later one of the same number) still runs."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_kills() -> tuple[str, int]:
    """How many processes the kernel has killed because memory ran out, where it says so.

    Returns:
        What the count is of, and the count: this process's cgroup where it has one of version 2
        (https://docs.kernel.org/admin-guide/cgroup-v2.html, `memory.events`), else the machine,
        each since this boot; outside Linux always the same.
    """
    with contextlib.suppress(OSError, StopIteration):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        group = next((line[4:] for line in groups if line.startswith("0::/")), "")
        events = Path("/sys/fs/cgroup") / group / "memory.events"
        file = events if events.exists() else Path("/proc/vmstat")
        return f"{boot}:{file}", _counted(file)
    return "unknown", 0


def begin_anew() -> NoReturn:
    """Replace this process by a fresh one with the same number, command line and output."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "fer_search", *sys.argv[1:]]
    os.execve(sys.executable, command, environment_with_package())


def environment_with_package() -> dict[str, str]:
    """This process's environment, in which a child finds this program from any folder."""
    path = os.pathsep.join([str(_PACKAGE), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path.rstrip(os.pathsep)}


def stop_on_signals() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `KeyboardInterrupt`; ignore those after it.

    One signal is one orderly stop: a second one, which `mlflow run` sends after Ctrl-C, must not
    break off the tidying. Python loses an exception that is raised while it calls a finalizer or
    a callback from C. If it notices that, the exception is raised again a moment later; C need not
    tell, so long work calls `heed_stop` now and then, too. Under `nohup` a SIGHUP stops nothing.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = tuple(getattr(signal, name) for name in names if name in dir(signal))

    def stop(number: int, frame: object) -> None:
        _ignore(numbers)
        _stops.append(time.time())
        raise KeyboardInterrupt

    def again(number: int, frame: object) -> None:
        heed_stop()

    def noticed(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            _stops.append(time.time())
            signal.signal(signal.SIGALRM, again)
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
        else:
            others(lost)

    others = sys.unraisablehook
    for each in numbers:
        if not (each in _SPARED and signal.getsignal(each) == signal.SIG_IGN):
            signal.signal(each, stop)
    sys.unraisablehook = noticed
    _ignore_at_exit((*numbers, signal.SIGALRM))


@functools.cache
def _ignore_at_exit(numbers: tuple[int, ...]) -> None:
    """When all is done, nothing is left to be stopped. Once: what is registered first ends last."""
    atexit.register(_ignore, numbers)


def _ignore(numbers: Iterable[int]) -> None:
    for each in numbers:
        signal.signal(each, signal.SIG_IGN)


def heed_stop() -> None:
    """Raise `KeyboardInterrupt` if a stop was asked for and its exception got lost."""
    if _stops:
        _stops.clear()
        raise KeyboardInterrupt


def stop_with(process: psutil.Process) -> None:
    """Stop this process, as by SIGTERM, when `process` ends; hard if it does not heed that."""

    def watch() -> None:
        while is_alive(process):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"stop-with-{process.pid}").start()


def _counted(file: Path) -> int:
    """The value of `oom_kill` in a file of names and numbers."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next(int(value) for name, value in lines if name == "oom_kill")
