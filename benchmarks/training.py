"""Images per second: our training, its limit, hand-written PyTorch, and a tutorial's loop.

    python -m benchmarks.training [--quick] [--json FILE]

    ours          `train` as trials run it: augmentation, weights, metrics; whole epochs
    bare          Keras's compiled step alone, repeated on one batch in memory: the limit
    native_torch  the same network in hand-written PyTorch, on one batch in memory: the best peer
    tutorial      `image_dataset_from_directory`, Random* layers, float32 and `fit`

Weights are random, because only time is measured; faces are FER2013's (`--data synthetic`: drawn).
All loops are ready at the same time and train in turn. Needs requirements-benchmarks.txt.
"""

from __future__ import annotations

import statistics

from benchmarks import measure
from benchmarks.loops import Task, running

LOOPS = ["ours", "bare", "native_torch", "tutorial"]
PEERS = {"bare": "vs_bare_step", "native_torch": "vs_native_torch", "tutorial": "vs_tutorial"}
BATCH_SIZE = 128


def main() -> None:
    """Print a row for each backbone and depth; a ratio is our rate to another's."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--backbones", default="vgg16,resnet50"),
        lambda parser: parser.add_argument("--depths", default="0,2,5"),
        lambda parser: parser.add_argument("--only", default=",".join(LOOPS)),
    )
    turns, limit = (5, 4 * BATCH_SIZE) if options.quick else (9, 16 * BATCH_SIZE)
    names = options.only.split(",")
    rows, numbers = [], {}
    for backbone in options.backbones.split(","):
        for depth in map(int, options.depths.split(",")):
            task = Task(backbone, depth, BATCH_SIZE, options.data, limit)
            with running(names, task) as loops:
                rates = measure.in_turn({name: loops[name].rate for name in names}, turns)
            medians = [statistics.median(rates[name]) for name in names]
            ratios = {
                peer: measure.ratio(rates["ours"], rates[peer])
                for peer in PEERS
                if peer in rates and "ours" in rates
            }
            rows.append([f"{backbone}, depth {depth}", *map(round, medians), *ratios.values()])
            print(rows[-1], flush=True)
            for peer, value in ratios.items():
                name = f"training.{PEERS[peer]}"
                numbers[name] = min(value, numbers.get(name, value))
                numbers[f"{name}.{backbone}.{depth}"] = value
    head = ["images/s", *names, *(f"ours / {peer}" for peer in ratios)]
    measure.close("A training step", measure.table(head, rows), numbers, options.json)


if __name__ == "__main__":
    main()
