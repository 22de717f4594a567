"""KerasTuner's `HyperParameters`, answered by an Optuna trial.

A space written in Keras's own vocabulary (`hp.Choice`, `hp.Float`, `hp.conditional_scope` …) asks
this object for values; it asks Optuna, once per active parameter. Inactive parameters are `None`,
as in KerasTuner, and Optuna never sees them. The same space works unchanged with a KerasTuner
tuner.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import keras_tuner
import optuna
from keras_tuner.engine import hyperparameters as kinds


class OptunaHyperParameters(keras_tuner.HyperParameters):
    """Hyperparameters whose values an Optuna trial proposes.

    Args:
        trial: Anything with Optuna's `suggest_categorical`, `suggest_int` and `suggest_float`.
    """

    def __init__(self, trial: optuna.trial.BaseTrial) -> None:
        super().__init__()
        self._trial = trial

    def _register(self, hyperparameter: kinds.HyperParameter, overwrite: bool = False) -> Any:
        """Ask Optuna where KerasTuner would take the default.

        `overwrite` resets a value to its default in KerasTuner's own tuners; a trial's value stays.
        """
        if self.is_active(hyperparameter) and hyperparameter.name not in self.values:
            self.values[hyperparameter.name] = _ask(self._trial, hyperparameter)
        return super()._register(hyperparameter)

    def copy(self) -> OptunaHyperParameters:
        """Copy, keeping the trial (the base class would fall back to defaults)."""
        twin = OptunaHyperParameters(self._trial)
        for name, same_name in self._hps.items():
            twin._hps[name] = list(same_name)
        twin._space = list(self._space)
        twin.values = dict(self.values)
        return twin

    def ensure_active_values(self) -> None:
        """Ask Optuna for parameters that became active (the base class would draw at random)."""
        for hyperparameter in self.space:
            if not self.is_active(hyperparameter):
                self.values.pop(hyperparameter.name, None)
            elif hyperparameter.name not in self.values:
                self.values[hyperparameter.name] = _ask(self._trial, hyperparameter)


def fingerprint(hp: keras_tuner.HyperParameters) -> str:
    """Compute a digest of a space's names, ranges, defaults and conditions, as 32 hex digits."""
    space = json.dumps(hp.get_config()["space"], sort_keys=True)
    return hashlib.blake2b(space.encode(), digest_size=16).hexdigest()


def _ask(trial: optuna.trial.BaseTrial, hp: kinds.HyperParameter) -> Any:
    """Ask Optuna for one parameter, unless it has a single value."""
    if isinstance(hp, kinds.Fixed):
        return hp.value
    if isinstance(hp, kinds.Boolean):
        return trial.suggest_categorical(hp.name, [False, True])
    if isinstance(hp, kinds.Choice):
        values = list(hp.values)
        return values[0] if len(values) == 1 else trial.suggest_categorical(hp.name, values)
    if isinstance(hp, (kinds.Int, kinds.Float)):
        return _ask_number(trial, hp)
    raise TypeError(f"{hp.name}: unsupported type {type(hp).__name__}")


def _ask_number(trial: optuna.trial.BaseTrial, hp: Any) -> Any:
    """Ask for a number in the range; where Optuna lacks the scale, for KerasTuner's probability.

    Optuna has neither steps on a log scale nor a reversed log scale. There the Optuna parameter is
    the cumulative probability in [0, 1] from which KerasTuner computes the value.
    """
    is_int = isinstance(hp, kinds.Int)
    low, high = hp.min_value, hp.max_value
    if low == high:
        return low
    if hp.sampling == "reverse_log" or (hp.sampling == "log" and hp.step is not None):
        return hp.prob_to_value(trial.suggest_float(hp.name, 0.0, 1.0))
    if hp.sampling == "log":
        suggest = trial.suggest_int if is_int else trial.suggest_float
        return suggest(hp.name, low, high, log=True)
    if is_int:
        step = int(hp.step or 1)
        return trial.suggest_int(hp.name, low, low + (high - low) // step * step, step=step)
    return trial.suggest_float(hp.name, low, high, step=hp.step)
