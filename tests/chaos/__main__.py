"""Chaos: a search on synthetic faces is injured again and again, resumed, and audited at the end.

    make chaos MINUTES=10 SEED=1 OUT=DIR

The seed decides what is done and when. The last line is `injected N violations M`; the exit status
is 1 if M is not 0. Everything written stays in OUT.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

from arena import Arena
from audit import violations
from injuries import INJURIES

from fer_search.processes import SURROUNDINGS

_MORE_TRIALS = 6
"""Number of further trials to request whenever the search is complete."""
_LONGEST_CALM = 25.0
"""Most seconds between two injuries."""
_LONGEST_END = 900.0
"""Seconds that the search may take to finish once it is left alone."""


def main() -> None:
    """Parse the command line and run or audit."""
    parser = argparse.ArgumentParser(description="Injure a search at random, then audit it.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--audit", action="store_true", help="only audit what is in OUT")
    asked = parser.parse_args()
    if asked.audit:
        _end(Counter(), violations(Arena(asked.out)))
    if asked.out.exists() and any(asked.out.iterdir()):
        parser.error(f"{asked.out} is not empty: expected a new folder")
    arena = Arena(asked.out)
    try:
        injected, found = _torment(arena, random.Random(asked.seed), asked.minutes)
    finally:
        arena.close()
    _end(injected, found)


def _end(injected: Counter[str], found: Sequence[str]) -> NoReturn:
    for name, count in sorted(injected.items()):
        _say(f"{count:4} × {name.replace('_', ' ')}")
    for each in found:
        _say(f"VIOLATION: {each}")
    print(f"injected {injected.total()} violations {len(found)}")
    sys.exit(bool(found))


def _torment(arena: Arena, chance: random.Random, minutes: float) -> tuple[Counter[str], list[str]]:
    """Injure a search for `minutes`, let it finish, and audit it."""
    injected: Counter[str] = Counter()
    found: list[str] = []
    trials, until = _MORE_TRIALS, time.monotonic() + 60 * minutes
    arena.start_server()
    arena.start_search(trials)
    while time.monotonic() < until:
        _wait(arena, chance.uniform(0, _LONGEST_CALM))
        if not arena.said():  # it does not handle signals yet
            continue
        if arena.search.poll() is not None:
            found += _faults_of_an_end(arena)
            trials += _MORE_TRIALS * (arena.search.returncode == 0)
            arena.start_search(trials)
            continue
        injury = chance.choice(INJURIES)
        _say(injury.__name__.replace("_", " "))
        injected[injury.__name__] += injury(arena, chance)
    for _ in range(5):
        _wait(arena, _LONGEST_END)
        if arena.search.poll() in (0, None):
            break
        found += _faults_of_an_end(arena)
        arena.start_search(trials)
    if arena.search.poll() != 0:
        found.append("the search does not come to its end")
    found += _faults_of_an_end(arena)
    arena.kill_server()
    return injected, found + violations(arena)


def _wait(arena: Arena, seconds: float) -> None:
    """Wait, or until the search has ended."""
    try:
        arena.search.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _faults_of_an_end(arena: Arena) -> Iterator[str]:
    """Find what is wrong with the output and the exit status of a search that has ended."""
    status, said = arena.search.returncode, arena.said()
    told = re.findall(r"^(?:Error|Stopped).*", said, re.MULTILINE)
    _say(f"the search ended with status {status}: {' '.join(told[-1:]) or 'nothing said'}")
    if status not in (0, 1, SURROUNDINGS, -9):
        yield f"the search ended with status {status}: {said[-500:]}"
    if "Traceback" in said:
        yield f"a person saw a traceback: {said[said.index('Traceback') :][:3000]}"


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


main()
