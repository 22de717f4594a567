"""A short chaos run, and whether the auditor finds what it should."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]


def test_nothing_is_lost_in_a_minute_of_chaos_and_the_auditor_would_see_it(tmp_path):
    arena = tmp_path / "arena"
    done = subprocess.run(
        ["make", "chaos", f"PYTHON={sys.executable}", "MINUTES=1", "SEED=3", f"OUT={arena}"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    last = done.stdout.strip().splitlines()[-1].split()
    assert int(last[1]) >= 2, "nothing was injured"
    assert last[2:] == ["violations", "0"]
    assert audit(arena) == []
    database = sqlite3.connect(arena / "mlflow.db")
    with database:
        database.execute("DELETE FROM metrics WHERE key = 'epoch/loss' AND step = 1")
        database.execute("UPDATE runs SET status = 'RUNNING' WHERE name = 'trial-001'")
        database.execute("DELETE FROM model_versions WHERE version = 1")
    database.close()
    (arena / "state" / "checkpoint-001.npz").touch()
    shutil.rmtree(next((arena / "mlruns").rglob("artifacts/*.keras")).parent)
    found = "\n".join(audit(arena))
    for fault in (
        "epoch/loss has the epochs", "is RUNNING", "0 registered versions",
        "a checkpoint of an ended trial", "its model cannot be loaded",
    ):  # fmt: skip
        assert fault in found, found


def audit(arena):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "chaos", "--out", arena, "--audit"],
        cwd=ROOT, text=True, capture_output=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    assert lines[-1].startswith("injected 0 violations"), done.stdout + done.stderr
    return [line for line in lines if "VIOLATION" in line]
