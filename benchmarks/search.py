"""Which search finds a good network soonest, with the same space, data, machine and time.

    python -m benchmarks.search --weights FILE [--json FILE] [--figure FILE]
    python -m benchmarks.search --quick [--json FILE] [--figure FILE]

    ours         mutation, ASHA and the known-good first points
    staged       ours after a search on a quarter of the images with half the epochs, which takes
                 a third of the time and hands on its best trials (`warm_start`)
    ours_tpe     ours, but TPE instead of mutation
    unprimed     ours_tpe without the known-good first points
    tpe          Optuna's TPE alone: no pruner, no first points
    random       random search
    i_epoch      one epoch for each candidate during half of the time, then the best to the end,
                 best first (Egele et al., https://arxiv.org/abs/2404.04111)
    hyperband, bayesian    KerasTuner's, on our HyperModel
    ray_asha     Ray Tune, OptunaSearch and ASHA, with a process per trial, its default

All train with `model.training.train`; a score counts from the moment its epoch was validated. Every
search runs in its own process, seed by seed and in turn. `--keep FILE` saves each finished search,
so that the same command can continue. `--quick` searches the miniature network: in so short a time,
VGG16 learns next to nothing under any search.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.searches import CONTENDERS
from fer_search.model.backbones import IMAGENET, NO_WEIGHTS

Curve = list[tuple[float, float]]
"""Seconds since the start, and the best validation macro-F1 by then; rising in both."""


def main() -> None:
    """Print how long ours takes to match the best score of each of the others."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--weights", default=IMAGENET),
        lambda parser: parser.add_argument("--backbones"),
        lambda parser: parser.add_argument("--limit", type=int),
        lambda parser: parser.add_argument("--epochs", type=int),
        lambda parser: parser.add_argument("--seconds", type=float, help="per search"),
        lambda parser: parser.add_argument("--seeds", type=int),
        lambda parser: parser.add_argument("--only", default=",".join(CONTENDERS)),
        lambda parser: parser.add_argument("--image-sizes", default="48"),
        lambda parser: parser.add_argument("--keep", type=Path, metavar="FILE"),
        lambda parser: parser.add_argument("--figure", type=Path),
    )
    quick = options.quick
    seconds = options.seconds or (80 if quick else 3600)
    backbones = options.backbones or ("tiny" if quick else "vgg16")
    weights = NO_WEIGHTS if backbones == "tiny" else measure.absolute(options.weights)
    space = {
        "data": measure.absolute(options.data), "weights": weights, "backbones": backbones,
        "image_sizes": options.image_sizes, "limit": options.limit or (2000 if quick else 6000),
        "epochs": options.epochs or (8 if quick else 20), "trials": 100_000, "sampler": "mutation",
    }  # fmt: skip
    curves: dict[str, list[Curve]] = {name: [] for name in options.only.split(",")}
    failures = []
    kept = _Kept(options.keep, space | {"seconds": seconds, "machine": measure.machine()})
    for seed in range(options.seeds or (1 if quick else 3)):
        for name in list(curves):
            try:
                curve = kept.read(name, seed) or _run(name, seed, seconds, space)
            except RuntimeError as error:  # the other searches go on
                failures.append(f"{name}, seed {seed}: {error}")
                del curves[name]
            else:
                kept.write(name, seed, curve)
                curves[name].append(curve)
                print(name, seed, curve[-1:], flush=True)
    _report(curves, f"{seconds:g} s, {space['limit']} images, {space['epochs']} epochs", options)
    if options.figure:
        _plot(curves, seconds, options.figure)
    if failures:
        sys.exit("\n".join(["These failed and are left out:", *failures]))


class _Kept:
    """Finished searches, kept in a file.

    Args:
        file: The JSON file, or None to keep nothing.
        task: What is searched, for how long, and on which machine.
    """

    def __init__(self, file: Path | None, task: dict[str, object]) -> None:
        self._file = file
        self._held: dict[str, Any] = {"task": task, "curves": {}}
        if file and file.is_file():
            self._held = json.loads(file.read_text())
            if self._held["task"] != task:
                sys.exit(f"{file} holds other searches: {self._held['task']}, expected {task}")

    def read(self, name: str, seed: int) -> Curve | None:
        """Return the curve of a finished search, None if there is none."""
        curve = self._held["curves"].get(f"{name} {seed}")
        return curve and [(at, score) for at, score in curve]  # JSON has no tuples

    def write(self, name: str, seed: int, curve: Curve) -> None:
        """Keep the curve of a finished search."""
        self._held["curves"][f"{name} {seed}"] = curve
        if self._file:
            draft = self._file.with_name(f".{self._file.name}")
            draft.write_text(json.dumps(self._held))
            draft.replace(self._file)


def _report(curves: dict[str, list[Curve]], title: str, options: argparse.Namespace) -> None:
    rows, numbers = [], {}
    for name, of_seeds in curves.items():
        finals = [curve[-1][1] for curve in of_seeds]
        row = [name, statistics.mean(finals)]
        if "ours" in curves and name != "ours":
            pairs = list(zip(curves["ours"], of_seeds, strict=True))
            times = [_time_to(ours, curve[-1][1]) for ours, curve in pairs]
            ratios = [_time_to(ours, curve[-1][1]) / curve[-1][0] for ours, curve in pairs]
            row += [statistics.median(times), max(times), statistics.median(ratios)]
            numbers[f"search.seconds_to_best_of.{name}"] = row[2]
            numbers[f"search.time_ratio.{name}"] = row[-1]
        numbers[f"search.best.{name}"] = row[1]
        rows.append(row + [""] * (5 - len(row)))
    head = ["search", "best macro-F1", "ours is as good after, s", "worst", "of its time"]
    measure.close(f"Searches, {title}", measure.table(head, rows), numbers, options.json)


def _run(name: str, seed: int, seconds: float, space: dict[str, object]) -> Curve:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scores")
        command = [sys.executable, "-m", "benchmarks.searches", name, str(seed), str(seconds)]
        measure.alone([*command, folder, json.dumps(space)])
        if not file.is_file():
            raise RuntimeError(f"{name} trained no epoch in {seconds:g} s")
        scores = [json.loads(line) for line in file.read_text().splitlines()]
    best, curve = 0.0, list[tuple[float, float]]()
    for at, score in sorted(scores):
        if score > best and at <= seconds:
            best = score
            curve.append((at, score))
    return curve or [(seconds, 0.0)]


def _time_to(curve: Curve, score: float) -> float:
    """Return the seconds until a search reached a score; infinite if it never did."""
    return next((at for at, reached in curve if reached >= score), float("inf"))


def _plot(curves: dict[str, list[Curve]], seconds: float, file: Path) -> None:
    import matplotlib.pyplot as plt

    at = np.linspace(0, seconds, 200)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, of_seeds in curves.items():
        best = np.array(
            [[max([s for t, s in c if t <= now] or [0]) for now in at] for c in of_seeds]
        )
        (line,) = axes.plot(at / 60, best.mean(axis=0), label=name, lw=3 if name == "ours" else 1.5)
        axes.fill_between(at / 60, best.min(0), best.max(0), color=line.get_color(), alpha=0.15)
    axes.set(xlabel="minutes", ylabel="best validation macro-F1", title="mean and range over seeds")
    axes.legend()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
