"""How this command was started: from which folder, and by which program.

`mlflow run` starts this program through a shell, possibly in a temporary checkout. So the program
looks up what started it: relative paths start from that folder, and the commands that it prints can
be pasted there.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any

import psutil

_SHELLS = {"sh", "bash", "dash", "zsh", "cmd.exe", "sh.exe", "bash.exe"}


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What started this command, and how to spell the next one."""

    directory: Path
    """Where the person typed the command."""
    mlflow: psutil.Process | None
    """The `mlflow run` above this process, if there is one."""
    prefix: tuple[str, ...]
    """`mlflow run .` with its own options, or `python -m fer_search`."""

    def command(self, name: str, **parameters: Any) -> str:
        """Spell the command `name` with `parameters`, ready to paste into the same shell."""
        if not self.mlflow:
            options = (f"--{key}={value}" for key, value in parameters.items())
            return shlex.join([*self.prefix, name, *options])
        entry = [] if name == "search" else ["-e", name]
        options = (part for key, value in parameters.items() for part in ("-P", f"{key}={value}"))
        return shlex.join([*self.prefix, *entry, *options])


def find_invocation() -> Invocation:
    """Find out how this process was started."""
    direct = Invocation(Path.cwd(), None, ("python", "-m", "fer_search"))
    if "MLFLOW_RUN_ID" not in os.environ:
        return direct
    try:
        above = psutil.Process().parents()
        starter = next(process for process in above if process.name() not in _SHELLS)
        arguments = starter.cmdline()
        if not is_mlflow_run(arguments):
            return direct
        return Invocation(Path(starter.cwd()), starter, mlflow_prefix(arguments))
    except (StopIteration, psutil.Error):
        return direct


def is_mlflow_run(arguments: list[str]) -> bool:
    """Tell whether a command line is `mlflow run …`, by its program or as a Python module."""
    before, found, _ = (" ".join(arguments)).partition(" run ")
    return bool(found) and before.split()[-1].endswith(("mlflow", "mlflow.exe", "mlflow.cli"))


def mlflow_prefix(arguments: list[str]) -> tuple[str, ...]:
    """Reduce `mlflow run . -e demo -P a=b --env-manager uv` to what every later command needs.

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
