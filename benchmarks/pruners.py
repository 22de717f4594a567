"""Which pruner finds the best score in the same time, on real learning curves.

    python -m benchmarks.pruners --weights FILE [--keep FILE] [--json FILE]
    python -m benchmarks.pruners --quick [--keep FILE] [--json FILE]

Trials proposed by our sampler, the known-good ones first, are trained to the end; `--keep` saves
their curves, so that the same command can continue. Then every pruner sees the same trials in many
random orders and stops those it chooses: it saves their remaining epochs and misses the scores that
they would have reached. `--quick` trains the miniature network.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState
from scipy.stats import spearmanr

from benchmarks import measure
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare
from fer_search.errors import TrialFailed
from fer_search.model.training import train
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.samplers import PRUNERS, PerTrialSampler, trial_seed
from fer_search.study.space import known_good, suggest

CHECKED = (0.1, 0.2, 0.3, 0.5)
"""Shares of the total time of all curves after which a pruner's best score is recorded."""

Curve = list[tuple[float, float]]
"""Seconds since the trial began, and validation macro-F1, epoch by epoch."""


def _asha(first: int, factor: int) -> Callable[[int], BasePruner]:
    return lambda _: SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)


CONTENDERS: Mapping[str, Callable[[int], BasePruner]] = {
    **PRUNERS,
    "asha, a half from epoch 1": _asha(1, 2),
    "asha, a quarter from epoch 1": _asha(1, 4),
    "asha, a quarter from epoch 2": _asha(2, 4),
}


def main() -> None:
    """Print how well early epochs predict the end, and what each pruner makes of that."""
    options = measure.options(
        __doc__,
        lambda parser: parser.add_argument("--data", default="fer2013"),
        lambda parser: parser.add_argument("--weights", default="none"),
        lambda parser: parser.add_argument("--backbones", default="vgg16"),
        lambda parser: parser.add_argument("--image-sizes", default="48"),
        lambda parser: parser.add_argument("--limit", type=int),
        lambda parser: parser.add_argument("--epochs", type=int, default=8),
        lambda parser: parser.add_argument("--trials", type=int),
        lambda parser: parser.add_argument("--orders", type=int, default=100),
        lambda parser: parser.add_argument("--keep", type=Path, metavar="FILE"),
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    precision = runtime.configure().precision
    quick = options.quick
    search = SearchConfig(
        data=measure.absolute(options.data),
        weights="none" if quick else measure.absolute(options.weights),
        backbones="tiny" if quick else options.backbones,
        image_sizes=options.image_sizes,
        limit=options.limit or (2000 if quick else 6000),
        epochs=options.epochs,
        precision=precision,
    )
    curves = _trained(search, options.trials or (24 if quick else 30), options.keep)
    title = f"{len(curves)} trials of {search.epochs} epochs, {search.limit} images"
    _report(curves, search.epochs, title, options)


def _trained(search: SearchConfig, n_trials: int, file: Path | None) -> list[Curve]:
    """Return the curves of trials that were not stopped; those in `file` are not trained again."""
    kept: dict[str, Any] = {"search": search.to_params(), "points": [], "curves": []}
    if file and file.is_file():
        kept = json.loads(file.read_text())
        if kept["search"] != search.to_params():
            sys.exit(f"{file} holds curves of another search: {kept['search']}")
    curves: list[Curve] = kept["curves"]
    splits = prepare(search)
    sampler = PerTrialSampler("mutation", search.seed, after_good_ones=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for point in known_good(search):
        study.enqueue_trial(point)
    for number in range(n_trials):
        trial = study.ask()
        seed = trial_seed(search.seed, number)
        config = suggest(OptunaHyperParameters(trial), search=search, seed=seed)
        if number == len(curves):
            kept["points"].append(trial.params)
            curves.append(_curve(functools.partial(train, config, splits)))
            if file:
                file.write_text(json.dumps(kept))
            print(number, [round(score, 3) for _, score in curves[-1]], flush=True)
        elif kept["points"][number] != trial.params:
            sys.exit(f"{file} holds curves of other trials: the sampler or the space has changed")
        if curves[number]:
            study.tell(trial, max(score for _, score in curves[number]))
        else:
            study.tell(trial, state=TrialState.FAIL)
    return [curve for curve in curves[:n_trials] if curve]


def _curve(train: Callable[..., Any]) -> Curve:
    """Train to the end and record the curve; it is empty if the trial fails."""
    curve: Curve = []
    began = time.monotonic()
    try:
        train(on_epoch=lambda e: curve.append((time.monotonic() - began, e.val_macro_f1)))
    except TrialFailed:
        return []
    return curve


def _report(curves: Sequence[Curve], epochs: int, title: str, options: argparse.Namespace) -> None:
    ends = [max(score for _, score in curve) for curve in curves]
    numbers = {}
    told = []
    for epoch in range(1, epochs):
        so_far = [max(score for _, score in curve[:epoch]) for curve in curves]
        numbers[f"pruners.rank_correlation.{epoch}"] = float(spearmanr(so_far, ends).statistic)
        told.append([epoch, numbers[f"pruners.rank_correlation.{epoch}"]])
    whole = sum(curve[-1][0] for curve in curves)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(curves)) for _ in range(options.orders)]
    rows = []
    for name, make in CONTENDERS.items():
        searches = [
            _replayed(make(epochs), [curves[n] for n in order], name=str(number))
            for number, order in enumerate(orders)
        ]
        found = [statistics.mean(_best(s, share * whole) for s in searches) for share in CHECKED]
        spent = statistics.mean(search[-1][0] for search in searches) / whole
        end = statistics.mean(search[-1][1] for search in searches)
        rows.append([name, *found, spent, end])
        numbers |= {f"pruners.{name}.share": spent, f"pruners.{name}.best": end}
    told_table = measure.table(["epoch", "rank correlation with the final best"], told)
    head = ["pruner", *(f"best after {s:.0%} of the time" for s in CHECKED), "its time", "its best"]
    shown = f"{told_table}\n\n{measure.table(head, rows)}"
    measure.close(f"Pruners, {title}", shown, numbers, options.json)


def _replayed(pruner: BasePruner, curves: Sequence[Curve], name: str) -> Curve:
    """Replay trials with a pruner: seconds since the search began, and the best score by then."""
    study = optuna.create_study(
        study_name=name,  # from which Hyperband chooses brackets
        direction="maximize",
        pruner=pruner,
    )
    before, best, search = 0.0, 0.0, list[tuple[float, float]]()
    for curve in curves:
        trial = study.ask()
        state = TrialState.COMPLETE
        for epoch, (seconds, score) in enumerate(curve, start=1):
            best = max(best, score)
            search.append((before + seconds, best))
            trial.report(score, epoch)
            if trial.should_prune() and epoch < len(curve):
                state = TrialState.PRUNED
                break
        before = search[-1][0]
        reached = max(score for _, score in curve[:epoch])
        study.tell(trial, reached if state == TrialState.COMPLETE else None, state=state)
    return search


def _best(search: Curve, seconds: float) -> float:
    return max((score for at, score in search if at <= seconds), default=0.0)


if __name__ == "__main__":
    main()
