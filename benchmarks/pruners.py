"""Which pruner leads our search to the best of simulated learning curves, and in how many epochs.

    python -m benchmarks.pruners [--quick] [--json FILE]

Real trials are too dear for hundreds of studies. Space, first points, sampler and pruners are ours;
only training is simulated: the score of a trial falls with its distance from a hidden optimum near
the first points, its curve rises as 1 - exp(-epoch / tau), and every validation is noisy. In the
hard world curves cross more, and the optimum is farther away.
"""

from __future__ import annotations

import dataclasses
import statistics
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from benchmarks import measure
from fer_search.config import SearchConfig
from fer_search.study import samplers
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.space import known_good, suggest

EPOCHS, TRIALS = 20, 50
CHECKED = (100, 200, 400)
"""Trained epochs after which a search is looked at."""
SEARCH = SearchConfig(data="synthetic", epochs=EPOCHS, image_sizes=(48,))
FIRST = {name: value for point in reversed(known_good(SEARCH)) for name, value in point.items()}


@dataclasses.dataclass(frozen=True)
class World:
    """How far the optimum is (of a range), how much speeds of learning differ, and the noise."""

    distance: float
    crossing: float
    noise: float


WORLDS = {"easy": World(0.2, 0.0, 0.006), "hard": World(0.3, 0.6, 0.01)}


def _of_brackets(seed: int) -> optuna.samplers.BaseSampler:
    """TPE as Optuna shows it a study under Hyperband: only the trials of one bracket."""
    return samplers.SAMPLERS["tpe"](seed, 0)


def _ours(seed: int) -> optuna.samplers.BaseSampler:
    return samplers.PerTrialSampler("tpe", seed)


def _asha_by_three(epochs: int) -> optuna.pruners.BasePruner:
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)


Make = tuple[
    Callable[[int], optuna.samplers.BaseSampler], Callable[[int], optuna.pruners.BasePruner]
]
CONTENDERS: dict[str, Make] = {
    **{name: (_ours, pruner) for name, pruner in samplers.PRUNERS.items()},
    "asha, a third": (_ours, _asha_by_three),
    "hyperband, each bracket alone": (_of_brackets, samplers.PRUNERS["hyperband"]),
}


def main() -> None:
    """Print what 50 trials came to, and how many epochs they trained."""
    options = measure.options(
        __doc__, lambda parser: parser.add_argument("--seeds", type=int, help="studies of each")
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    n_seeds = options.seeds or (20 if options.quick else 60)
    rows, numbers = [], {}
    for world_name, world in WORLDS.items():
        for name in CONTENDERS:
            studies = [_study(CONTENDERS[name], world, seed) for seed in range(n_seeds)]
            means = [statistics.mean(column) for column in zip(*studies, strict=True)]
            rows.append([f"{name} ({world_name})", *means[:-1], round(means[-1])])
            numbers[f"pruners.{world_name}.{name}"] = means[-2]
            numbers[f"pruners.{world_name}.{name}.epochs"] = means[-1]
    head = ["pruner", *(f"after {n} epochs" for n in CHECKED), f"after {TRIALS} trials", "epochs"]
    title = f"Pruners on simulated curves, {n_seeds} studies each"
    measure.close(title, measure.table(head, rows), numbers, options.json)


def _study(contender: Make, world: World, seed: int) -> list[float]:
    """The true score of the trial that looked best, at `CHECKED` and at the end; and all epochs."""
    sampler, pruner = contender
    study = optuna.create_study(
        study_name=str(seed),  # by which Hyperband chooses brackets
        direction="maximize",
        sampler=sampler(seed),
        pruner=pruner(EPOCHS),
    )
    for point in known_good(SEARCH):
        study.enqueue_trial(point)
    noise = np.random.default_rng(seed)
    best, chosen, trained, looks = 0.0, 0.0, 0, list[float]()
    for _ in range(TRIALS):
        trial = study.ask()
        suggest(OptunaHyperParameters(trial), search=SEARCH, seed=seed)
        score, tau = _truth(trial.params, trial.distributions, world, seed)
        state, reached = optuna.trial.TrialState.COMPLETE, 0.0
        for epoch in range(1, EPOCHS + 1):
            value = score * (1 - np.exp(-epoch / tau)) + noise.normal(0, world.noise)
            trained, reached = trained + 1, max(reached, value)
            if value > best:
                best, chosen = value, score
            if trained in CHECKED:
                looks.append(chosen)
            trial.report(value, epoch)
            if trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, reached if state.name == "COMPLETE" else None, state=state)
    looks += [chosen] * (len(CHECKED) - len(looks))
    return [*looks, chosen, trained]


def _truth(
    point: Mapping[str, Any], ranges: Mapping[str, BaseDistribution], world: World, seed: int
) -> tuple[float, float]:
    """Where the curve of a point leads, and the epochs in which it goes two thirds of the way."""
    loss, shape = 0.0, zlib.crc32(repr(sorted(point.items())).encode())
    for name, value in point.items():
        hidden = np.random.default_rng([seed, zlib.crc32(name.encode())])
        spread = ranges[name]
        if isinstance(spread, CategoricalDistribution):
            costs = hidden.exponential(0.012, len(spread.choices))
            costs *= [0.3 if choice == FIRST.get(name) else 1.0 for choice in spread.choices]
            loss += costs[spread.choices.index(value)]
            continue
        at, first = _share(spread, value), _share(spread, FIRST[name]) if name in FIRST else 0.5
        optimum = np.clip(first + hidden.normal(0, world.distance), 0, 1)
        weight = 1.2 if "learning_rate" in name else hidden.exponential(0.05)
        loss += weight * (at - optimum) ** 2
    speed = np.random.default_rng([seed, shape]).normal(0, world.crossing)
    slow = 10 * world.crossing * point["dropout"]  # what regularises learns later
    return 0.65 * float(np.exp(-2 * loss)), float(3 * np.exp(speed) + slow)


def _share(spread: Any, value: float) -> float:
    """Where a value lies in its range, from 0 to 1."""
    if spread.single():
        return 0.0
    ends = np.array([spread.low, value, spread.high])
    low, at, high = np.log(ends) if spread.log else ends
    return float((at - low) / (high - low))


if __name__ == "__main__":
    main()
