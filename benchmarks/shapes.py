"""How many of a study's trials could reuse the compiled program of another one.

    python -m benchmarks.shapes [--quick] [--json FILE]

Compiling once per shape pays off only where shapes recur. A shape is everything that cannot be a
variable: network, image size, trained stages, pooling, head, optimizer and batch size. Nothing is
trained; trials are drawn at random from the whole space.
"""

from __future__ import annotations

import statistics

import optuna

from benchmarks import measure
from fer_search.config import SearchConfig
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.samplers import PerTrialSampler
from fer_search.study.space import suggest

SHAPE = ("backbone", "image_size", "unfreeze_depth", "batch_norm", "pooling", "head_units",
         "optimizer", "batch_size")  # fmt: skip
TRIALS = 50


def main() -> None:
    """Print the median number of different shapes over seeds."""
    options = measure.options(__doc__)
    rows, numbers = [], {}
    for sizes in ("48", "96,128,160"):
        search = SearchConfig(image_sizes=sizes)
        different = statistics.median(_different(search, seed) for seed in range(5))
        rows.append([f"{sizes} px", different])
        numbers[f"shapes.different_of_{TRIALS}.{sizes.replace(',', '_')}"] = different
    head = ["", f"different shapes in {TRIALS} trials"]
    measure.close("Shapes", measure.table(head, rows), numbers, options.json)


def _different(search: SearchConfig, seed: int) -> int:
    study = optuna.create_study(sampler=PerTrialSampler("random", seed))
    shapes = set()
    for _ in range(TRIALS):
        trial = study.ask()
        config = suggest(OptunaHyperParameters(trial), search=search, seed=seed)
        shapes.add(tuple(getattr(config, name) for name in SHAPE))
        study.tell(trial, 0.0)
    return len(shapes)


if __name__ == "__main__":
    main()
