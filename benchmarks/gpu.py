"""Training on a GPU: images per second, share of the chip's peak, concurrent trials.

    KERAS_BACKEND=jax python -m benchmarks.gpu [--quick] [--json FILE] [--sizes 48,96,128]

`ours` is `train` as trials run it, with augmentation, weights and metrics, not counting the first
call of an epoch, validation and checkpoints; `native_torch` is hand-written PyTorch on one batch in
memory, with channels_last, autocast, torch.compile and CUDA graphs. `in two` is the total of two
trials at once on the same device. Then the time of a trial of 20 epochs is split into training and
the rest, and finally a search runs as a user would start it, with 50 trials of at most 20 epochs;
`--only rates,trial` skips parts. It also runs on a CPU, where small sizes show that it works.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.loops import Loop, Task
from benchmarks.loops.ours import AUGMENTATION
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.model import classifier
from fer_search.model.checkpoint import Checkpoint
from fer_search.model.training import train
from fer_search.trial_config import TrialConfig

PARTS = ("rates", "trial", "search")
ROOT = Path(__file__).parents[1]
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 operations per second of the largest version, from NVIDIA's data sheets."""


def main() -> None:
    """Print a row for each backbone and size, a trial split into parts, and a search."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--sizes", default="48,96,128"),
        lambda parser: parser.add_argument("--backbones", default="vgg16,resnet50"),
        lambda parser: parser.add_argument("--batch-size", type=int, default=128),
        lambda parser: parser.add_argument("--limit", type=int),
        lambda parser: parser.add_argument("--epochs", type=int, default=20),
        lambda parser: parser.add_argument("--trials", type=int, help="trials of the search"),
        lambda parser: parser.add_argument("--trials-per-gpu", type=int, default=1),
        lambda parser: parser.add_argument("--weights", default="none", help="for the search"),
        lambda parser: parser.add_argument("--only", default=",".join(PARTS), help="parts to run"),
    )
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"--only={options.only}: unknown part {unknown.pop()}, expected {PARTS}")
    runtime.configure()  # before a network is built
    limit = options.limit or (8192 if options.quick else 28_709)
    backbones, sizes = options.backbones.split(","), list(map(int, options.sizes.split(",")))
    tasks = [
        Task(backbone, 5, options.batch_size, options.data, limit, size)
        for backbone in backbones
        for size in sizes
    ]
    if "rates" in parts:
        rows, numbers = [], {}
        for task in tasks:
            row = _rates(task, turns=3 if options.quick else 5)
            rows.append([f"{task.backbone}, {task.image_size} px", *row.values()])
            print(rows[-1], flush=True)
            place = f"gpu.{task.backbone}.{task.image_size}"
            numbers |= {f"{place}.{name}": value for name, value in row.items()}
            measure.keep(numbers, options.json)  # a row takes minutes, and a GPU may be reclaimed
        shown = measure.table(["images/s", *row], rows)
        measure.close("On this device", shown, numbers, options.json)
    if "trial" in parts:
        rows, numbers = [], {}
        for task in tasks[:: len(sizes)]:
            split = _trial(task, options.epochs)
            rows.append([f"{task.backbone}, {task.image_size} px", *split.values()])
            place = f"gpu.{task.backbone}.trial"
            numbers |= {f"{place}.{name}": value for name, value in split.items()}
            measure.keep(numbers, options.json)
        shown = measure.table([f"a trial of {options.epochs} epochs, s", *split], rows)
        measure.close("A trial", shown, numbers, options.json)
    if "search" not in parts:
        return
    trials = options.trials or (5 if options.quick else 50)
    seconds = _search(
        trials=trials,
        epochs=options.epochs,
        image_sizes=sizes[0],
        data=measure.absolute(options.data),
        limit=limit,
        backbones=options.backbones,
        weights=measure.absolute(options.weights),
        workers="auto",
        trials_per_gpu=options.trials_per_gpu,
    )
    shown = measure.table(["", "s"], [[f"{trials} trials, at {sizes[0]} px, in total", seconds]])
    measure.close("A search", shown, {"gpu.search.seconds": seconds}, options.json)


def _rates(task: Task, turns: int) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        loops = [stack.enter_context(Loop(name, task)) for name in ("ours", "native_torch", "ours")]
        for loop in loops:  # one after another, because compiling times kernels
            print(f"{task.backbone}, {task.image_size} px: {loop.rate():.0f}/s so far", flush=True)
        ours, torch, another = loops
        rates = measure.in_turn({"ours": ours.rate, "native_torch": torch.rate}, turns)
        together = []
        for _ in range(turns):
            ours.ask()
            another.ask()
            together.append(ours.read() + another.read())
    median = statistics.median(rates["ours"])
    return {
        "ours": median,
        "native_torch": statistics.median(rates["native_torch"]),
        "ours / native_torch": measure.ratio(rates["ours"], rates["native_torch"]),
        "share of the peak": median * _operations(task) / _peak(),
        "in two": statistics.median(together),
    }


def _trial(task: Task, epochs: int) -> dict[str, float]:
    """Time a trial from data in memory to the result: seconds in its batches, and in the rest."""
    splits = prepare(SearchConfig(data=task.data, limit=task.limit))
    config = TrialConfig(
        backbone=task.backbone, image_size=task.image_size, batch_size=task.batch_size,
        augmentation=AUGMENTATION, epochs=epochs, patience=epochs,
    )  # fmt: skip
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoint(Path(folder, "checkpoint.npz"), {})
        _, result = train(config, splits, on_epoch=lambda _: None, checkpoint=kept)
    whole = time.perf_counter() - began
    n = len(splits.train.labels) // task.batch_size * task.batch_size
    batches = sum(n / epoch.images_per_second for epoch in result.epochs)
    return {"whole": whole, "in batches": batches, "rest": whole - batches}


def _search(**settings: Any) -> float:
    """Run a search, and return the seconds from the command to the test score."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        measure.alone(
            [sys.executable, "-m", "fer_search", "search",
             *(f"--{name}={value}" for name, value in settings.items())],
            PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
            XDG_STATE_HOME=folder,
            XDG_CACHE_HOME=folder,  # no programs compiled earlier
        )  # fmt: skip
    return time.perf_counter() - began


def _operations(task: Task) -> float:
    """Count the multiplications and additions to train on an image: three forward passes."""
    model = classifier.build(TrialConfig(backbone=task.backbone, image_size=task.image_size))
    forward = 0.0
    for layer in model.get_layer(task.backbone).layers:
        if hasattr(layer, "kernel"):
            _, height, width, _ = layer.output.shape
            forward += 2 * math.prod(layer.kernel.shape) * height * width
    return 3 * forward


def _peak() -> float:
    """Return this chip's peak operations per second, NaN if it is not in the table."""
    words = re.findall(r"\w+", runtime.configure().name)
    return next((peak for chip, peak in PEAKS.items() if chip in words), float("nan"))


if __name__ == "__main__":
    main()
