import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.search import _time_to

ROOT = Path(__file__).parents[1]


def test_contenders_are_measured_in_turn():
    order = []
    contenders = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    assert measure.in_turn(contenders, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert order == ["a", "b", "a", "b"]


def test_a_slow_minute_does_not_change_a_ratio():
    assert measure.ratio([2.0, 1.0, 2.0], [4.0, 2.0, 4.0]) == 0.5


def test_numbers_of_several_benchmarks_share_a_file(tmp_path, capsys):
    file = tmp_path / "numbers.json"
    measure.close("one", "|", {"a": 1.0}, file)
    measure.close("two", "|", {"b": 2.0, "never": float("inf")}, file)
    assert json.loads(file.read_text()) == {"a": 1.0, "b": 2.0, "never": None}
    assert "cores" in capsys.readouterr().out


def test_what_a_search_never_reached_took_for_ever():
    curve = [(1.0, 0.2), (5.0, 0.4)]
    assert [_time_to(curve, score) for score in (0.1, 0.3, 0.5)] == [1.0, 5.0, float("inf")]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_trial_of_the_overhead_benchmark_is_timed(tmp_path):
    done = run(
        "benchmarks.contenders.ours", f"sqlite:///{tmp_path}/m.db", str(tmp_path), "6", "300"
    )
    times = json.loads(done.stdout.splitlines()[-1])
    assert len(times) == 6
    assert all(0 < seconds < 30 for seconds in times)


@pytest.mark.slow
@pytest.mark.long
def test_a_search_leaves_scores_that_rise(tmp_path):
    file = tmp_path / "numbers.json"
    common = "--quick --data synthetic --weights none --backbones tiny --limit 140 --seconds 6"
    common += f" --only ours,i_epoch --keep {tmp_path}/kept"
    done = run("benchmarks.search", *common.split(), "--json", str(file))
    assert done.returncode == 0, done.stderr
    again = run("benchmarks.search", *common.split())
    assert again.stdout == done.stdout, "searches that were kept ran again"
    numbers = json.loads(file.read_text())
    assert 0 < numbers["search.best.ours"] <= 1
    ratio = numbers["search.time_ratio.i_epoch"]
    assert ratio is None or ratio > 0  # null if ours was never as good in the six seconds


@pytest.mark.slow
@pytest.mark.long
def test_pruners_meet_curves_that_were_trained_once(tmp_path):
    file = tmp_path / "numbers.json"
    common = "--quick --data synthetic --limit 140 --trials 4 --epochs 6 --orders 9"
    common += f" --keep {tmp_path}/kept"
    done = run("benchmarks.pruners", *common.split(), "--json", str(file))
    assert done.returncode == 0, done.stderr
    again = run("benchmarks.pruners", *common.split())
    assert done.stdout.endswith(again.stdout), "curves that were kept were trained again"
    numbers = json.loads(file.read_text())
    assert numbers["pruners.none.share"] == pytest.approx(1)
    assert 0 < numbers["pruners.asha.share"] < 1
    assert 0 < numbers["pruners.asha.best"] <= numbers["pruners.none.best"]
    other = run("benchmarks.pruners", *common.replace("140", "70").split())
    assert "another search" in other.stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_memory_of_a_worker_is_written_down(tmp_path):
    file = tmp_path / "numbers.json"
    done = run(
        *["benchmarks.memory", "--quick", "--backbones", "tiny", "--trials", "7", "--json"],
        str(file),
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads(file.read_text())
    assert numbers["memory.trials"] == 7
    assert -300 < numbers["memory.growth_mb"] < 300


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_the_benchmark_for_gpus_runs_on_a_small_scale(tmp_path):
    file = tmp_path / "numbers.json"
    common = "--quick --data synthetic --backbones resnet50 --sizes 32 --batch-size 16 --limit 64"
    common += " --epochs 1 --trials 1"
    done = run("benchmarks.gpu", *common.split(), "--json", str(file))
    assert done.returncode == 0, done.stderr
    numbers = json.loads(file.read_text())
    assert numbers["gpu.resnet50.32.ours"] > 0
    assert numbers["gpu.search.seconds"] > 0


@pytest.mark.slow
@pytest.mark.long
def test_what_lies_between_two_trials_is_told_in_parts(tmp_path):
    file = tmp_path / "numbers.json"
    common = "--quick --data synthetic --weights none --backbones tiny --limit 70 --trials 3"
    done = run("benchmarks.between", *common.split(), "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(file.read_text())["between.seconds"] < 60


@pytest.mark.slow
@pytest.mark.long
def test_convolutions_are_measured_and_trained_both_ways(tmp_path):
    file = tmp_path / "numbers.json"
    done = run("benchmarks.convolutions", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    common = "--train 1 --data synthetic --weights none --limit 70 --epochs 1"
    done = run("benchmarks.convolutions", *common.split(), "--json", str(file))
    assert done.returncode == 0, done.stderr
    numbers = json.loads(file.read_text())
    assert numbers["convolutions.step.resnet50"] > 0
    assert abs(numbers["convolutions.score_change"]) < 0.5
