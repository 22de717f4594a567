"""Epochs that reuse the features of frozen stages, against epochs that compute everything.

    python -m benchmarks.features [--quick] [--json FILE] [--weights FILE]

Trains VGG16 at depths 0 and 1 both ways, seed by seed and in turn. An epoch's seconds include its
validation. The first epochs compute the features and are no faster; `speedup` is that of the later
ones, `trial` that of a whole trial, from data in memory to the score of the stored model.
"""

from __future__ import annotations

import statistics
import time

from benchmarks import measure
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.data.splits import Splits
from fer_search.model import features
from fer_search.model.training import train
from fer_search.results import EpochMetrics
from fer_search.trial_config import Augmentation, TrialConfig

AUGMENTATION = Augmentation(rotation=12.0, shift=0.1, zoom=0.1, flip=True)


def main() -> None:
    """Print a row for each depth: seconds of an epoch both ways, and scores over the seeds."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--weights", default="imagenet"),
        lambda parser: parser.add_argument("--limit", type=int),
        lambda parser: parser.add_argument("--epochs", type=int),
        lambda parser: parser.add_argument("--depths", default="0,1"),
    )
    epochs, limit = (8, 1500) if options.quick else (20, 6000)
    epochs = options.epochs or epochs
    runtime.configure()
    splits = prepare(SearchConfig(data=options.data, limit=options.limit or limit))
    rows, numbers = [], {}
    for depth in map(int, options.depths.split(",")):
        seconds: dict[bool, list[float]] = {True: [], False: []}
        totals: dict[bool, list[float]] = {True: [], False: []}
        scores: dict[bool, list[float]] = {True: [], False: []}
        for seed in range(3):
            config = TrialConfig(
                backbone="vgg16", weights=options.weights, unfreeze_depth=depth, batch_size=128,
                learning_rate=1e-3, augmentation=AUGMENTATION, epochs=epochs, patience=epochs,
                seed=seed,
            )  # fmt: skip
            for is_kept in ((True, False), (False, True))[seed % 2]:
                began = time.perf_counter()
                ends, score = _trained(config, splits, is_kept=is_kept)
                totals[is_kept].append(time.perf_counter() - began)
                later = ends[features.VARIANTS :]
                seconds[is_kept].append((later[-1] - later[0]) / (len(later) - 1))
                scores[is_kept].append(score)
        speedup = measure.ratio(seconds[False], seconds[True])
        of_trial = measure.ratio(totals[False], totals[True])
        numbers[f"features.depth{depth}_speedup"] = speedup
        numbers[f"features.depth{depth}_trial_speedup"] = of_trial
        numbers[f"features.depth{depth}_score_change"] = statistics.mean(
            scores[True]
        ) - statistics.mean(scores[False])
        medians = [statistics.median(seconds[each]) for each in (False, True)]
        rows.append([f"depth {depth}", *medians, speedup, of_trial, *map(_range, scores.values())])
        print(rows[-1], flush=True)
    head = ["VGG16", "s per epoch, in full", "with features", "speedup", "trial",
            "macro-F1 with features", "in full"]  # fmt: skip
    title = f"Frozen stages, {len(splits.train.labels)} images, {epochs} epochs"
    measure.close(title, measure.table(head, rows), numbers, options.json)


def _trained(config: TrialConfig, splits: Splits, *, is_kept: bool) -> tuple[list[float], float]:
    """Train with or without kept features; return when each epoch ended, and the score."""
    deepest, heard = features.DEEPEST, list[EpochMetrics]()
    features.DEEPEST = deepest if is_kept else -1
    try:
        _, result = train(config, splits, on_epoch=heard.append)
    finally:
        features.DEEPEST = deepest
    return [epoch.ended_at for epoch in heard], result.objective


def _range(scores: list[float]) -> str:
    return f"{statistics.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"


if __name__ == "__main__":
    main()
