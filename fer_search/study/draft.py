"""Writes the parameters of a trial to the storage, all of them in one transaction.

Optuna writes each parameter separately, which takes longer than finding its value; and a process
that is killed in between leaves a trial with only some of its parameters, so that the rest are
drawn again. Values are stored as Optuna does (`optuna.storages.RDBStorage.set_trial_param`).
"""

from __future__ import annotations

import functools
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)

_parameters = sqlalchemy.table(
    "trial_params",
    *map(sqlalchemy.column, ("trial_id", "param_name", "param_value", "distribution_json")),
)


class Draft:
    """Stands in for the storage while a trial's parameters are suggested.

    Args:
        storage: Storage of the study.
        study: Optuna's study.
        trial_id: Optuna's id of the trial.
    """

    def __init__(
        self, storage: optuna.storages.RDBStorage, study: optuna.Study, trial_id: int
    ) -> None:
        self._storage, self._study, self._trial_id = storage, study, trial_id
        self._rows: dict[str, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study._storage, name)

    def set_trial_param(
        self, trial_id: int, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        """Note a parameter, by its name and by its value in Optuna's internal representation.

        Raises:
            ValueError: If other trials of the study have it with other choices or as another kind;
                a sampler could not learn from both.
        """
        check_distribution_compatibility(self._known.get(name, distribution), distribution)
        self._rows[name] = {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": value,
            "distribution_json": distribution_to_json(distribution),
        }

    @functools.cached_property
    def _known(self) -> dict[str, BaseDistribution]:
        """Distributions of the parameters of all trials so far."""
        trials = self._study.get_trials(deepcopy=False)
        return {name: kind for each in trials for name, kind in each.distributions.items()}

    def write(self) -> None:
        """Write the noted parameters; may be called again after an error."""
        if not self._rows:
            return
        mine = _parameters.c.trial_id == self._trial_id
        with self._storage.engine.begin() as connection:
            written = connection.execute(sqlalchemy.select(_parameters.c.param_name).where(mine))
            for name in written.scalars():
                self._rows.pop(name, None)
            if self._rows:
                connection.execute(sqlalchemy.insert(_parameters), list(self._rows.values()))
        self._rows.clear()
