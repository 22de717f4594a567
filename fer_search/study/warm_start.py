"""First points from an earlier study: the best ones there, as far as this study's space has them.

`warm_start=STUDY` passes on to a larger search what one with fewer or smaller images or fewer
epochs has found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_tuner.engine import hyperparameters as kinds

from fer_search.config import NONE, SOURCES, SearchConfig
from fer_search.errors import ConfigError
from fer_search.study.hyperparameters import fingerprint
from fer_search.study.space import declare, settled
from fer_search.study.studies import Points, RDBStorage, find_study, study_names
from fer_search.study.study import Study
from fer_search.trials import ranked

N_POINTS = 4
"""Number of trials of the earlier study that are tried again: fewer than the failures that stop a
study, because similar ones may all be too large for larger images."""
_OF_THE_DATA = ("data", "seed", "faces", "votes")
"""Settings on which the choice of test images may depend."""


def earlier_study(storage: RDBStorage, search: SearchConfig) -> Study | None:
    """Open the study that `search.warm_start` names; return None if it names none.

    Raises:
        ConfigError: If it does not exist, searched another HyperModel, or surely used other data.
        StoreError: If another program made it.
    """
    if search.warm_start == NONE:
        return None
    earlier = find_study(storage, search.warm_start)
    if earlier is None:
        known = ", ".join(study_names(storage)) or "none"
        raise ConfigError(
            f"warm_start={search.warm_start}: there is no such study in {storage.url}",
            hint=f"known there: {known}",
        )
    if earlier.search.hypermodel != search.hypermodel:
        raise ConfigError(
            f"warm_start={earlier.name} searched hypermodel={earlier.search.hypermodel}, "
            f"this study searches {search.hypermodel}",
            hint="name a study of the same HyperModel",
        )
    if {earlier.search.data, search.data} == set(SOURCES):  # known before the data are fetched
        raise _other_test(earlier, search)
    return earlier


def warm_points(earlier: Study, search: SearchConfig, test_digest: str) -> Points:
    """Choose the best points of an earlier study, for `create_study`.

    Trials are ranked by validation macro-F1: complete ones by the stored model's, pruned ones by
    their last epoch's. Parameters that the earlier study did not have, or whose value this one does
    not allow, take their defaults.

    Args:
        earlier: The study that `earlier_study` returned.
        search: Settings of the new study; `image_sizes` must be resolved.
        test_digest: Digest of the new study's test images.

    Returns:
        The points, best first, each preceded by its origin.

    Raises:
        ConfigError: If the earlier study was measured on other test images (its points might then
            have been chosen on this study's test set), has no trial that fits, or searched a
            HyperModel whose space has changed since.
    """
    if earlier.facts["test_digest"] != test_digest:
        raise _other_test(earlier, search)
    is_ours = search.hypermodel == NONE
    if not is_ours and earlier.facts["space"] != fingerprint(declare(search)):
        raise ConfigError(
            f"warm_start={earlier.name} was created with another search space than "
            f"{search.hypermodel} declares now",
            hint="name a study of this version of the HyperModel",
        )
    finished = [trial for trial in earlier.trials() if trial.state in ("COMPLETE", "PRUNED")]
    if is_ours:
        finished = [each for each in finished if each.params.get("backbone") in search.backbones]
    if not finished:
        of = f" of {', '.join(search.backbones)}" if is_ours else ""
        raise ConfigError(
            f"warm_start={earlier.name} has no finished trial{of}",
            hint="let it finish some trials first, or name another study",
        )
    best = ranked(finished)[:N_POINTS]
    moved = _moved if is_ours else lambda point, _: dict(point)
    return [(f"{earlier.name} #{each.number}", moved(each.params, search)) for each in best]


def _other_test(earlier: Study, search: SearchConfig) -> ConfigError:
    before, now = earlier.search.to_params(), search.to_params()
    others = [f"{n}={before[n]}" for n in _OF_THE_DATA if before[n] != now[n]]
    return ConfigError(
        f"warm_start={earlier.name} used other test images "
        f"({', '.join(others) or 'the data have changed since'}), so its parameters "
        "may have been chosen on this study's test images",
        hint=f"use the same {', '.join(_OF_THE_DATA)}; limit, image_sizes, epochs and "
        "backbones may differ",
    )


def _moved(point: Mapping[str, Any], search: SearchConfig) -> dict[str, Any]:
    """Adapt a point of another study to what this one can try."""
    known = {parameter.name: parameter for parameter in declare(search).space}
    allowed = {n: v for n, v in point.items() if n in known and _allows(known[n], v)}
    return dict(declare(search, allowed | settled(search)).values)


def _allows(parameter: kinds.HyperParameter, value: Any) -> bool:
    if isinstance(parameter, (kinds.Int, kinds.Float)):
        return bool(parameter.min_value <= value <= parameter.max_value)
    return value in parameter.values
