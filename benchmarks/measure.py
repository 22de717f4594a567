"""Shared code of the benchmarks: options, turns, ratios, the machine, a table and a JSON file."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_search import runtime
from fer_search.config import AUTO


def options(doc: str | None, *more: Callable[[argparse.ArgumentParser], Any]) -> argparse.Namespace:
    """Parse the command line: `--quick`, `--json`, and the benchmark's own options.

    Args:
        doc: Docstring of the benchmark; its first line is the description.
        *more: Functions that each add an argument.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, at most 15 minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    for add in more:
        add(parser)
    return parser.parse_args()


def in_turn(contenders: Mapping[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """Measure A B A B …, so that a slow minute of the machine affects all contenders.

    Args:
        contenders: Functions that measure once, by name.
        turns: How often each is measured.
    """
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return measured


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Return the median ratio of measurements in turn; each pair is close together in time."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a Markdown table; floats with three significant digits."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def close(
    title: str,
    shown: str,
    numbers: Mapping[str, float],
    file: Path | None,
    *,
    precision: str = AUTO,
) -> None:
    """Print a benchmark's table under the machine's name, and write its numbers.

    Args:
        title: Title of the benchmark.
        shown: The table to print.
        numbers: Numbers by flat name, merged with those already in `file`. Infinite ones, which
            were never reached, become null.
        file: The JSON file, or None to write nothing.
        precision: The requested precision.
    """
    print(f"\n{title}, {datetime.date.today()}: {machine(precision)}\n\n{shown}", flush=True)
    keep(numbers, file)


def keep(numbers: Mapping[str, float], file: Path | None) -> None:
    """Write numbers as `close` does, even before the benchmark has ended."""
    if file:
        before = json.loads(file.read_text()) if file.is_file() else {}
        known = {name: each if math.isfinite(each) else None for name, each in numbers.items()}
        file.write_text(json.dumps(before | known, indent=2) + "\n")


def machine(precision: str = AUTO) -> str:
    """Describe the device, packages and commit of this process."""
    device = runtime.configure(precision)
    versions = runtime.environment(device)
    packages = [f"{name} {versions['packages'][name]}" for name in (device.backend, "keras")]
    commit = re.sub(r"(?<=^\w{8})\w+", "", str(versions["commit"]))
    return (
        f"{device.name}, {os.cpu_count()} cores; {', '.join(packages)}, {device.precision}; "
        f"commit {commit}"
    )


def alone(command: Sequence[str], **environment: str) -> str:
    """Run a part of a benchmark in its own process and return what it printed.

    Raises:
        RuntimeError: If it fails, with its error output.
    """
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def absolute(value: str) -> str:
    """Make a path absolute, for work in another folder; names of sources stay as they are."""
    return str(Path(value).resolve()) if Path(value).exists() else value


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
