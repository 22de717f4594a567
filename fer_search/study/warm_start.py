"""First points from an earlier study: what was best there, as far as this study's space has it.

A search on fewer pictures, smaller ones or fewer epochs costs a tenth and knows most of what a long
one has to find out; `warm_start=STUDY` hands that on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_tuner.engine import hyperparameters as kinds

from fer_search.config import NONE, SearchConfig
from fer_search.errors import ConfigError
from fer_search.study.space import declare, settled
from fer_search.study.studies import existing_study

N_POINTS = 5
"""So many trials of the earlier study are tried again."""


def warm_points(url: str, search: SearchConfig, test_digest: str) -> dict[str, dict[str, Any]]:
    """The best points of the study that `search.warm_start` names, for `create_study`.

    Complete and pruned trials count by their last validation macro-F1. Parameters that the earlier
    study did not have, or whose value this one does not allow, take their defaults.

    Args:
        url: Of the storage that holds the earlier study.
        search: Settings of the new study; `image_sizes` must be resolved.
        test_digest: Of the new study's test pictures.

    Returns:
        Points by where they come from, best first; none without `warm_start`.

    Raises:
        StoreError: If there is no such study.
        ConfigError: If it searched another HyperModel, was measured on other test pictures (points
            might then have been chosen on what is this study's test), or has no trial that fits.
    """
    if search.warm_start == NONE:
        return {}
    earlier = existing_study(url, search.warm_start)
    if earlier.search.hypermodel != search.hypermodel:
        raise ConfigError(
            f"warm_start={earlier.name} searched hypermodel={earlier.search.hypermodel}, "
            f"this study searches {search.hypermodel}",
            hint="name a study of the same HyperModel",
        )
    if earlier.facts["test_digest"] != test_digest:
        raise ConfigError(
            f"warm_start={earlier.name} was made on other data: its test pictures are not this "
            "study's, so it may have chosen its parameters on them",
            hint="name a study on the same data; limit, image_sizes and epochs may differ",
        )
    finished = [p for p in earlier.points() if p.state in ("COMPLETE", "PRUNED")]
    fitting = [p for p in finished if p.params.get("backbone", "") in ("", *search.backbones)]
    if not fitting:
        raise ConfigError(
            f"warm_start={earlier.name} has no finished trial of {', '.join(search.backbones)}",
            hint="let it finish some trials first, or name another study",
        )
    best = sorted(fitting, key=lambda p: (-(p.value or 0.0), p.number))[:N_POINTS]
    return {f"{earlier.name} #{p.number}": _moved(p.params, search) for p in best}


def _moved(point: Mapping[str, Any], search: SearchConfig) -> dict[str, Any]:
    """A point of another study as this one can try it."""
    if search.hypermodel != NONE:
        return dict(point)  # of what does not fit, Optuna says so, and asks the sampler
    space = declare(search).space
    known = {parameter.name: parameter for parameter in space}
    allowed = {n: v for n, v in point.items() if n in known and _allows(known[n], v)}
    return dict(declare(search, allowed | settled(search)).values)


def _allows(parameter: kinds.HyperParameter, value: Any) -> bool:
    if isinstance(parameter, (kinds.Int, kinds.Float)):
        return bool(parameter.min_value <= value <= parameter.max_value)
    return value in parameter.values
