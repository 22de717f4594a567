"""Compare the parameter importances of a study with chance: a table and a figure.

    python -m docs.importances --study NAME --storage sqlite:///optuna.db --figure FILE.png

The values of the trials are shuffled `--shuffles` times; a parameter matters if its share is larger
than in nearly all shuffles.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import optuna

from fer_search.figures.study import parameter_importances
from fer_search.study.importances import importances_of
from fer_search.study.studies import existing_study


def main() -> None:
    """Print a row for each parameter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--shuffles", type=int, default=500)
    options = parser.parse_args()
    study = existing_study(options.storage, options.study)
    found = study.importances()
    parameter_importances(found).savefig(options.figure, dpi=110)
    trials = study.ended()
    values = np.array([trial.value for trial in trials])
    rng = np.random.default_rng(0)
    chance = [importances_of(with_values(trials, rng.permutation(values)))
              for _ in range(options.shuffles)]  # fmt: skip
    print("| parameter | trials with it | share | 95th percentile of shuffles | p |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, share in found.items():
        by_chance = np.array([shares.get(name, 0) for shares in chance])
        p = (1 + (by_chance >= share).sum()) / (1 + len(by_chance))
        n = sum(name in trial.params for trial in trials)
        print(f"| `{name}` | {n} | {share:.3f} | {np.quantile(by_chance, 0.95):.3f} | {p:.3f} |")


def with_values(
    trials: list[optuna.trial.FrozenTrial], values: np.ndarray
) -> list[optuna.trial.FrozenTrial]:
    """Copy trials, with other values."""
    return [
        optuna.trial.create_trial(
            params=trial.params, distributions=trial.distributions, value=float(value)
        )
        for trial, value in zip(trials, values, strict=True)
    ]


if __name__ == "__main__":
    main()
