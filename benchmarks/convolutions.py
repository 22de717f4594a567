"""What matrix products save where oneDNN is slow, layer by layer and in whole steps.

    python -m benchmarks.convolutions [--quick] [--json FILE]
    python -m benchmarks.convolutions --train 3 --weights FILE

Each layer, with both its gradients, and each step is measured both ways in turn, with TensorFlow on
a CPU. On another processor, this shows whether `model/convolutions.py` pays off there. Prefix the
command with `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16` to disable AMX. `--train` instead trains the same
trials both ways and prints their scores.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from benchmarks import measure
from benchmarks.loops.ours import AUGMENTATION
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.model import backbones, classifier, convolutions, optimizers
from fer_search.model.training import train
from fer_search.trial_config import TrialConfig

BATCH_SIZE = 128
LAYERS = [
    (3, 2, 512, 512), (3, 3, 512, 512), (3, 4, 512, 512), (3, 6, 128, 128), (3, 6, 512, 512),
    (3, 8, 256, 256), (3, 8, 512, 512), (1, 2, 512, 2048), (1, 3, 1024, 256), (1, 6, 128, 512),
    (1, 12, 64, 256),
]  # fmt: skip
"""Kernel side, side of the feature maps in pixels, input and output channels."""


def main() -> None:
    """Print milliseconds of layers and of steps; a ratio is oneDNN's time to the product's."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--precision", default="mixed_bfloat16"),
        lambda parser: parser.add_argument("--train", type=int, metavar="SEEDS"),
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--weights", default="imagenet"),
        lambda parser: parser.add_argument("--limit", type=int, default=3000),
        lambda parser: parser.add_argument("--epochs", type=int, default=3),
    )
    runtime.configure(options.precision)
    if options.train:
        _compare_scores(options)
    else:
        _compare_times(options)


def _compare_times(options: argparse.Namespace) -> None:
    turns = 8 if options.quick else 20
    rows, numbers = [], {}
    for layer in LAYERS:
        side, pixels, before, after = layer
        name = f"{side} x {side}, {pixels} px, {before} to {after}"
        rows.append([name, *_both({"convolution": _plain, "product": _product}, layer, turns)])
        numbers[f"convolutions.{side}.{pixels}.{before}.{after}"] = rows[-1][-1]
    for backbone in ("vgg16", "resnet50"):
        steps = {"convolution": _step(backbone, is_product=False)}
        steps["product"] = _step(backbone, is_product=True)
        rows.append([f"a step of {backbone}", *_timed(steps, turns)])
        numbers[f"convolutions.step.{backbone}"] = rows[-1][-1]
    head = ["ms", "convolution", "product", "ratio"]
    shown = measure.table(head, rows)
    measure.close("Convolutions", shown, numbers, options.json, precision=options.precision)


def _compare_scores(options: argparse.Namespace) -> None:
    splits = prepare(SearchConfig(data=options.data, limit=options.limit))
    rows, numbers = [], {}
    for seed in range(options.train):
        config = TrialConfig(
            backbone="vgg16", weights=options.weights, batch_size=128, augmentation=AUGMENTATION,
            epochs=options.epochs, seed=seed,
        )  # fmt: skip
        scores = []
        for is_product in (False, True):
            with _convolutions(is_product=is_product):
                scores.append(train(config, splits, on_epoch=lambda _: None)[1].objective)
        rows.append([f"seed {seed}", *scores])
        print(rows[-1], flush=True)
    means = [statistics.mean(row[column] for row in rows) for column in (1, 2)]
    rows.append(["mean", *means])
    numbers["convolutions.score_change"] = means[1] - means[0]
    shown = measure.table(["validation macro-F1", "convolution", "product"], rows)
    title = f"VGG16 on {options.limit} images, {options.epochs} epochs"
    measure.close(title, shown, numbers, options.json, precision=options.precision)


def _convolutions(*, is_product: bool) -> Any:
    """Build networks with matrix products, or without, while the context is open."""
    ways = convolutions.as_products if is_product else lambda _model: None
    return mock.patch.object(backbones, "as_products", ways)


def _timed(contenders: dict[str, Callable[[], Any]], turns: int) -> list[float]:
    """Return the median milliseconds of both contenders, and their ratio."""

    def milliseconds(call: Callable[[], Any]) -> float:
        began = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - began)

    for call in contenders.values():
        call()  # compiles
    clocked = {name: functools.partial(milliseconds, call) for name, call in contenders.items()}
    measured = measure.in_turn(clocked, turns)
    return [*map(statistics.median, measured.values()), measure.ratio(*measured.values())]


def _both(kinds: dict[str, Any], layer: tuple[int, int, int, int], turns: int) -> list[float]:
    side, pixels, before, after = layer
    rng = np.random.default_rng(0)
    maps, kernel, upstream = (
        tf.cast(rng.normal(size=shape), keras.config.dtype_policy().compute_dtype)
        for shape in [
            (BATCH_SIZE, pixels, pixels, before),
            (side, side, before, after),
            (BATCH_SIZE, pixels, pixels, after),
        ]
    )

    def both_ways(convolve: Any) -> Any:
        @tf.function(jit_compile=False)
        def outputs_and_gradients(maps: Any, kernel: Any, upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch([maps, kernel])
                outputs = convolve(maps, kernel)
            return outputs, tape.gradient(outputs, [maps, kernel], upstream)

        return functools.partial(outputs_and_gradients, maps, kernel, upstream)

    return _timed({name: both_ways(convolve) for name, convolve in kinds.items()}, turns)


def _plain(maps: Any, kernel: Any) -> Any:
    return tf.nn.conv2d(maps, kernel, 1, "SAME")


def _product(maps: Any, kernel: Any) -> Any:
    if kernel.shape[0] == 1:
        return convolutions._pointwise((1, 1), maps, kernel)
    return convolutions._over_small_maps(maps, kernel)


def _step(backbone: str, *, is_product: bool) -> Callable[[], Any]:
    """Make a training step of all stages on one batch in memory."""
    config = TrialConfig(backbone=backbone)
    with _convolutions(is_product=is_product):
        model = classifier.build(config)
    model.compile(
        optimizers.create(config, model, 1000), "categorical_crossentropy", jit_compile=False
    )
    rng = np.random.default_rng(0)
    faces = tf.constant(rng.integers(0, 256, (BATCH_SIZE, 48, 48, 1), np.uint8))
    targets = keras.ops.one_hot(rng.integers(0, 7, BATCH_SIZE), 7)
    return lambda: model.train_on_batch(faces, targets)


if __name__ == "__main__":
    main()
