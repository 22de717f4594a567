"""A worker that is started before it is known what it shall work on.

A search imports TensorFlow, MLflow and the rest before it can open a study, and its worker does so,
too, before it can take a trial. With a worker on standby both do it at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from fer_search.processes import environment_with_package


class Standby:
    """A process that imports what a worker needs, and waits for its command line.

    It is started with the context and ends with it, unless it has become a worker by then. If this
    process is killed, it ends by itself.

    Args:
        is_wanted: False for none, where it could not become a worker.
    """

    def __init__(self, *, is_wanted: bool = True) -> None:
        self._is_wanted = is_wanted
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._is_wanted:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, "worker"],  # the last for who looks at processes
                env=environment_with_package(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """End it, if it has not become a worker."""
        if self._process:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def begin(self, options: Sequence[str], log: Path) -> subprocess.Popen[bytes] | None:
        """Let it do the command `worker` in this process's environment; it is the caller's then.

        Args:
            options: Of the command.
            log: File to which it prints, after what is there.

        Returns:
            The process; None if there is none any more: it is at work, was dismissed, or died.
        """
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return None
        order = json.dumps(
            {"options": options, "log": str(log), "environment": environment_with_package()}
        )
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(order.encode())
        return process if process.poll() is None else None


def main() -> None:
    """Import, wait for the command line on standard input, and do the command."""
    import fer_search.workflows.worker  # noqa: F401, what the command imports

    told = sys.stdin.buffer.read()
    if told:
        order: dict[str, Any] = json.loads(told)
        _print_to(Path(order["log"]))
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv[1:] = ["worker", *order["options"]]
        runpy.run_module("fer_search", run_name="__main__")


def _print_to(log: Path) -> None:
    with log.open("ab") as file, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    main()
