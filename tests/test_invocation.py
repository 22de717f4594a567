import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fer_search.invocation import Invocation, find_invocation, is_mlflow_run, mlflow_prefix

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
    direct = Invocation(Path(), None, ("python", "-m", "fer_search"))
    assert direct.command("search", study="a b") == "python -m fer_search search '--study=a b'"
    launched = Invocation(Path(), psutil.Process(), ("mlflow", "run", "."))
    assert launched.command("search", study="s") == "mlflow run . -P study=s"
    assert launched.command("promote", version=3) == "mlflow run . -e promote -P version=3"


def test_the_launcher_is_found_above_the_shell(tmp_path):
    code = (
        "from fer_search.invocation import find_invocation; invocation = find_invocation(); "
        "print(invocation.mlflow.pid, invocation.directory)"
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
    invocation = find_invocation()
    assert (invocation.mlflow, invocation.directory) == (None, Path.cwd())
