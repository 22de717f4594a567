"""Training loops that are measured in turn, one module each.

    python -m benchmarks.loops.NAME BACKBONE DEPTH BATCH_SIZE DATA LIMIT IMAGE_SIZE

Each imports and loads its data; then, for every line on its standard input, it trains a little and
prints its images per second. The first time, it compiles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Self


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained."""

    backbone: str
    depth: int
    """Number of trained stages, counted from the output."""
    batch_size: int
    data: str
    """The source of the images, as in `SearchConfig.data`."""
    limit: int
    """Number of training images."""
    image_size: int = 48
    """Side in pixels to which faces are scaled."""

    @classmethod
    def read(cls) -> Task:
        """Read a task from the command line."""
        backbone, depth, batch_size, data, limit, image_size = sys.argv[1:]
        return cls(backbone, int(depth), int(batch_size), data, int(limit), int(image_size))


def wait() -> None:
    """Wait for the next request to measure; end the process if there is none."""
    if not sys.stdin.readline():
        sys.exit()


def answer(rate: float) -> None:
    """Print a measurement and wait for the next request."""
    print(f"rate {rate}", flush=True)
    wait()


class Loop:
    """A loop in its own process that trains only on request."""

    def __init__(self, name: str, task: Task) -> None:
        command = [sys.executable, "-m", f"benchmarks.loops.{name}"]
        command += map(str, dataclasses.astuple(task))
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def rate(self) -> float:
        """Train a little and return images per second."""
        self.ask()
        return self.read()

    def ask(self) -> None:
        """Request a measurement."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def read(self) -> float:
        """Wait for the measurement and return images per second."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("rate "):
                return float(line.split()[1])
        self._said.seek(0)
        raise RuntimeError(f"{self._process.args} ended:\n{self._said.read()}")


@contextlib.contextmanager
def running(names: list[str], task: Task) -> Iterator[dict[str, Loop]]:
    """Provide loops by name, all ready to be measured."""
    with contextlib.ExitStack() as stack:
        loops = {name: stack.enter_context(Loop(name, task)) for name in names}
        for loop in loops.values():
            loop.rate()
        yield loops
