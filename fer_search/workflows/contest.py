"""The evidence for a promotion: a study's test images, and models measured on them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fer_search.config import SearchConfig
from fer_search.data import duplicates
from fer_search.data.images import scaled
from fer_search.data.preparation import prepare
from fer_search.data.splits import Split, Splits
from fer_search.errors import InputError, PromotionRefused, StoreError
from fer_search.gate import Measured
from fer_search.model.training import evaluate
from fer_search.serving.evaluation import milliseconds_in_turn
from fer_search.serving.package import load_keras
from fer_search.tracking import store
from fer_search.tracking.models import REMOVED_TAG, has_files
from fer_search.tracking.runs import StudyRun, place_of, study_run_of

DIGESTS = ("train_digest", "test_digest")


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A version of the registered model, with the study it comes from.

    Args:
        client: Client of the tracking store.
        version: The version as the registry has it.
    """

    client: Any
    version: Any

    def __str__(self) -> str:
        return f"version {self.version.version}"

    @property
    def model_id(self) -> str:
        """Id of the logged model."""
        kind, _, model_id = str(self.version.source).partition(":/")
        if kind != "models" or not model_id.startswith("m-"):
            raise StoreError(
                f"{self} of {self.version.name!r} ({self.version.source}) is from no search",
                hint="promote a version that a search registered, with version=…",
            )
        return model_id

    def check_files(self) -> None:
        """Refuse a model that is no longer stored, before anything else is done with it.

        Raises:
            PromotionRefused: If it has no files.
        """
        if has_files(self.client, self.model_id):
            return
        run_id, removed = str(self.version.run_id), ""
        if store.holds(self.client, run_id):
            removed = self.client.get_run(run_id).data.tags.get(REMOVED_TAG, "")
        raise PromotionRefused(
            f"the files of {self} are gone" + (f": deleted {removed}" if removed else ""),
            hint="promote another version=…, and delete this one",
        )

    @property
    def run_id(self) -> str:
        """Id of the trial's run, even if the version was registered by hand."""
        return str(self.version.run_id or self.client.get_logged_model(self.model_id).source_run_id)

    def study_run(self) -> StudyRun:
        """Find the run of the study that trained it.

        Raises:
            StoreError: If the runs have been deleted or were not made by a search.
        """
        found = study_run_of(self.client, self.run_id)
        if found is None:
            raise StoreError(
                f"the runs of {self}'s study are no longer in {self.client.tracking_uri}",
                hint="restore them in the MLflow UI, or promote a version of another study",
            )
        return found

    @functools.cached_property
    def origin(self) -> Mapping[str, str]:
        """Its tags; `study`, `trial_number` and `DIGESTS` are read from the runs if missing.

        Raises:
            StoreError: If the runs have been deleted or were not made by a search.
        """
        known: dict[str, str] = dict(self.version.tags)
        if not {"study", "trial_number", *DIGESTS} <= known.keys():  # registered by hand
            known = self.study_run().tags | place_of(self.client, self.run_id) | known
        return known

    def splits(self) -> Splits:
        """Make the splits of its study again, from the study's `config.json`.

        Raises:
            InputError: If the settings are gone, or the data cannot be read or have changed.
        """
        settings = self.study_run().read_json("config.json")
        if settings is None:
            raise StoreError(f"the study of {self} has no config.json")
        splits = prepare(SearchConfig(**settings))
        for name in DIGESTS:
            known, now = self.origin.get(name), getattr(splits, name)
            if known != now:
                raise StoreError(
                    f"{settings.get('data')} has changed: {name} is {now}, was {known} for {self}",
                    hint="restore the data that the study was created with",
                )
        return splits


def test_images(candidate: Contestant, champion: Contestant | None) -> tuple[Split, list[str]]:
    """Make the candidate's test images again, and check that the champion never trained on them.

    Its own digests show that the candidate did not.

    Returns:
        The images, and notes that must accompany the scores.

    Raises:
        PromotionRefused: If the images cannot be made again, or the champion was trained on some.
    """
    try:
        test = candidate.splits().test
    except InputError as error:
        raise PromotionRefused(
            f"the test images of {candidate} cannot be loaded again: {error.message}",
            hint=error.hint or "make the data of its study available again",
        ) from error
    if champion is None:
        return test, []
    try:
        if champion.origin.get("test_digest") == candidate.origin["test_digest"]:
            return test, []
        splits = champion.splits()
    except InputError as error:
        return test, [
            f"the champion, {champion}, may have been trained on some of these images, "
            f"which would favour it: {error.message}"
        ]
    seen = np.concatenate([splits.train.images, splits.validation.images])
    same = duplicates.identities(np.concatenate([test.images, seen]))
    shared = int(np.isin(same[: len(test)], same[len(test) :]).sum())
    if shared:
        raise PromotionRefused(
            f"the champion, {champion}, was trained on {shared} of the {len(test)} test images "
            f"of {candidate}, so their scores cannot be compared",
            hint="promote a version whose study has the champion's data and split, or delete the "
            "alias `champion` in the MLflow UI to start over",
        )
    return test, [
        f"the champion, {champion}, is from study {champion.origin.get('study')}, which has "
        "different test images"
    ]


def measure(contestants: Sequence[Contestant], test: Split) -> list[Measured]:
    """Evaluate models on the same images, and time them in turn.

    Args:
        contestants: The versions to measure, at least one.
        test: The test images.

    Raises:
        PromotionRefused: If a model cannot be loaded or does not fit the images.
    """
    models, megabytes, evaluations = [], [], []
    for contestant in contestants:
        try:
            model, size = load_keras(contestant.client, contestant.model_id)
            evaluations.append(evaluate(model, test.images, test.labels))
        except (StoreError, store.StoreException, OSError, ValueError, TypeError) as error:
            raise PromotionRefused(
                f"{contestant} cannot be evaluated: {error}",
                hint="promote another version=…, or fix or delete this one",
            ) from error
        models.append(model)
        megabytes.append(size / 1e6)
    milliseconds = milliseconds_in_turn(
        [model.predict_on_batch for model in models],
        [scaled(test.images[:1], model.input_shape[1])[..., None] for model in models],
    )
    return [
        Measured(evaluation=evaluation, megabytes=size, milliseconds=time)
        for evaluation, size, time in zip(evaluations, megabytes, milliseconds, strict=True)
    ]
