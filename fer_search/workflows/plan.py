"""How a worker trains a trial: our network, or one that a custom HyperModel builds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_search.config import NONE, SearchConfig
from fer_search.data.splits import Splits
from fer_search.model.checkpoint import Checkpoint
from fer_search.model.custom_training import train_custom
from fer_search.model.preview import preview
from fer_search.model.training import train
from fer_search.study import custom
from fer_search.study.hyperparameters import OptunaHyperParameters
from fer_search.study.space import suggest
from fer_search.study.trial import Trial
from fer_search.trial_config import TrialConfig

_PATIENCE: int = TrialConfig.model_fields["patience"].default


@dataclasses.dataclass(frozen=True)
class Plan:
    """A trial before it is trained."""

    params: Mapping[str, Any]
    """Hyperparameters, by their names in MLflow; a custom `fit` may add to them."""
    train: Callable[..., Any]
    """Takes the splits, `on_epoch` and `on_batch`, as `model.training.train` does; if there is a
    checkpoint also `parts`, and only a checkpoint with at least as many parts is then used."""
    images: Callable[[Splits], dict[str, np.ndarray]]
    """What the network sees, for a figure; empty if that is not known."""
    patience: int = _PATIENCE
    """Number of epochs without a better validation macro-F1 after which training ends."""
    checkpoint: Checkpoint | None = None
    """Where training is saved between epochs; None for a custom `fit`, which cannot be saved."""


def plan(trial: Trial, search: SearchConfig, checkpoint: Path) -> Plan:
    """Plan a trial with the values that the study suggests.

    Args:
        trial: Trial that is asked for the values.
        search: Settings of its study.
        checkpoint: File for `Plan.checkpoint`.

    Raises:
        HyperModelError: If a custom HyperModel cannot be found.
    """
    return _ours(trial, search, checkpoint) if search.hypermodel == NONE else _custom(trial, search)


def _ours(trial: Trial, search: SearchConfig, file: Path) -> Plan:
    config = trial.ask(functools.partial(suggest, search=search, seed=trial.seed))
    params = config.to_params()
    checkpoint = Checkpoint(file, params)
    return Plan(
        params=params,
        train=functools.partial(train, config, checkpoint=checkpoint),
        images=lambda splits: preview(config, splits.train.mapped, splits.train.labels),
        patience=config.patience,
        checkpoint=checkpoint,
    )


def _custom(trial: Trial, search: SearchConfig) -> Plan:
    hypermodel = custom.find(search)

    def read(hp: OptunaHyperParameters) -> OptunaHyperParameters:
        custom.build(hypermodel, hp, search)  # asks for its values
        return hp

    hp = trial.ask(read)
    hp.values["hypermodel"] = search.hypermodel
    return Plan(
        params=hp.values,
        train=functools.partial(
            train_custom,
            search.hypermodel,
            functools.partial(custom.build, hypermodel, hp, search),
            functools.partial(custom.fit, hypermodel, hp),
            epochs=search.epochs,
            patience=_PATIENCE,
            seed=trial.seed,
        ),
        images=lambda _splits: {},
    )
