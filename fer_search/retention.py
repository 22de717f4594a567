"""What may be deleted: stored models in, a verdict with a reason for each out.

Pure: no store, no clock, so that every rule can be tested by itself.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from fer_search.command_config import CleanConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A version in the registry."""

    name: str
    """Name of the registered model."""
    number: str
    source: str
    """What it loads: `models:/m-…`, or another address."""
    run_id: str = ""
    """ID of the run that it is said to come from."""
    study: str = ""
    """Name of the study that registered it; empty if none did."""
    uses: tuple[str, ...] = ()
    """Aliases that point at it, and its stage if it has one in use."""
    location: str = ""
    """Where its files are, if `source` is another version, whose address does not tell."""

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"

    @property
    def is_ours(self) -> bool:
        """Whether a search registered it; a copy of such a version does not count."""
        return bool(self.study) and self.source.startswith("models:/m-")

    def loads(self, model_id: str, run_id: str) -> bool:
        """Tell whether it may load a logged model of a run (empty if unknown), by any address."""
        is_of_run = self.run_id == run_id or self.source.startswith(f"runs:/{run_id}/")
        return model_id in self.source or model_id in self.location or bool(run_id and is_of_run)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredModel:
    """A logged model and what depends on it."""

    model_id: str
    name: str
    study: str
    """Name of the study that made it; empty if none did."""
    study_run_id: str
    """Distinguishes studies of one name in several databases; empty if none made it."""
    trial: int
    """Number of the trial; -1 if none made it."""
    run_id: str
    """ID of the run that made it; empty if unknown."""
    score: float | None
    """Validation macro-F1; None if unknown or the model is incomplete, so it counts for nothing."""
    location: str
    """Where its files are."""
    size: int
    """Bytes of its files."""
    versions: tuple[Version, ...] = ()
    held: str = ""
    """Why it must not be touched, whatever its worth; empty if nothing holds it."""
    begun: str = ""
    """When and why an earlier `clean` began to delete it; empty if none did."""

    @property
    def megabytes(self) -> float:
        """Size as it is shown and compared: in units of 10^6 bytes, rounded to a tenth.

        Packages of one network differ by a few bytes of text, which makes none of them smaller.
        """
        return round(self.size / 1e6, 1)

    @property
    def is_left(self) -> bool:
        """Whether a deletion was cut short after the last version: files may be missing."""
        return bool(self.begun) and not self.versions


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a model."""

    model: StoredModel
    goes: bool
    why: str


def plan(models: Sequence[StoredModel], policy: CleanConfig) -> list[Verdict]:
    """Decide for each model whether something needs it.

    Models in use stay, and of each study the best `keep` and the front of score and size. Once a
    plan has been carried out, the next one deletes nothing.

    Args:
        models: All models of their studies; with only some, others would be the best.
        policy: What may be deleted.

    Returns:
        Verdicts study by study, best first; models that count for nothing come last.
    """
    studies: dict[str, list[StoredModel]] = defaultdict(list)
    for model in models:
        studies[model.study_run_id].append(model)
    return [verdict for study in studies.values() for verdict in _judge(study, policy)]


def doomed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """List the models to delete, in order: unregistered ones first.

    What an earlier call began and could not finish comes last, so that it holds nothing else up.
    """
    going = [verdict for verdict in verdicts if verdict.goes]
    return sorted(going, key=lambda verdict: (verdict.model.is_left, bool(verdict.model.versions)))


def front(models: Sequence[StoredModel]) -> list[StoredModel]:
    """Find the Pareto front of score and size: each is smaller than all others as good or better.

    Of models that are equal in both, the earliest trial represents all.
    """
    by_score = sorted(models, key=lambda m: (-(m.score or 0), m.megabytes, m.trial))
    found: list[StoredModel] = []
    for model in by_score:
        if not found or model.megabytes < found[-1].megabytes:
            found.append(model)
    return found


def _judge(study: Sequence[StoredModel], policy: CleanConfig) -> list[Verdict]:
    ranked = sorted(
        (model for model in study if model.score is not None and not model.is_left),
        key=lambda model: (-(model.score or 0), model.trial),
    )
    others = sorted(
        (model for model in study if model.score is None or model.is_left),
        key=lambda model: (model.trial, model.name),
    )
    worth = {model.model_id: "no smaller model is as good" for model in front(ranked)}
    for rank, model in enumerate(ranked[: policy.keep], start=1):
        worth[model.model_id] = f"number {rank} of its study"
    verdicts = []
    for model in (*ranked, *others):
        why = _need(model) or ("" if model.is_left else worth.get(model.model_id, ""))
        if not why and model.versions and not policy.versions:
            why = "registered: deleted only with versions=true"
        verdicts.append(Verdict(model, not why, why or _why_not(model, policy)))
    return verdicts


def _need(model: StoredModel) -> str:
    """Say why a model must not be touched, whatever its worth; empty if nothing forbids it."""
    if model.held:
        return model.held
    for version in model.versions:
        if version.uses:
            return f"{version} is {', '.join(version.uses)}"
    for version in model.versions:
        if not version.is_ours:
            return f"{version} was not registered by a search"
    return ""


def _why_not(model: StoredModel, policy: CleanConfig) -> str:
    if model.is_left:
        return f"its deletion began {model.begun}"
    return f"not among the best {policy.keep}, and another is as good and as small"
