"""Put a model into use: a version that passes the gate becomes the `champion`.

Candidate and champion are evaluated on the same untouched test images, those of the candidate's
study; `gate.decide` decides. The evidence is stored in its own run before the registry changes, and
the registry changes by one write (see `tracking.aliases`).
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator, Mapping

from fer_search import runtime
from fer_search.command_config import PredictionConfig, PromotionConfig
from fer_search.data.splits import Split
from fer_search.errors import FerSearchError, PromotionRefused
from fer_search.figures import promotion as figures
from fer_search.gate import Decision, Measured, decide, doubts_of_the_first
from fer_search.progress import say
from fer_search.tracking import aliases, registry, store
from fer_search.tracking.aliases import CHAMPION, PREVIOUS
from fer_search.tracking.logged_run import LoggedRun
from fer_search.workflows.contest import Contestant, measure, test_images

PROMOTED, REFUSED, WOULD, ROLLED_BACK, UNCHANGED = (
    "promoted", "refused", "would be promoted", "rolled back", "is the champion already",
)  # fmt: skip
"""Values of the tag `decision` of a promotion's run."""


def promote(config: PromotionConfig) -> None:
    """Make a version the champion, if it passes the gate.

    Raises:
        StoreError: If the registry has no such model or version (any more), or nothing to roll
            back to.
        PromotionRefused: If the gate says no, or the models cannot be compared.
    """
    client, name = store.connect(), config.registered_model
    if not config.dry_run:
        aliases.repair(client, name)
    if config.rollback:
        _roll_back(client, config)
        return
    candidate = Contestant(client, registry.find(client, name, str(config.version)))
    found = registry.by_alias(client, name, CHAMPION)
    champion = Contestant(client, found) if found else None
    with _run(client, config, f"promote {name} {candidate}") as run:
        if champion and champion.version.version == candidate.version.version:
            run.set_tags({"decision": UNCHANGED})
            say(f"{name} {candidate} is already the champion: models:/{name}@{CHAMPION}")
            return
        decision = _contest(run, config, candidate, champion)
        if not decision.promoted:
            raise PromotionRefused(
                f"{name} {candidate} was not promoted:\n"
                + "\n".join(f"  {reason}" for reason in decision.reasons),
                hint="extend the search, or relax min_gain=…, max_f1_drop=…, confidence=…",
            )
        if config.dry_run:
            run.set_tags({"decision": WOULD})
            say(f"{name} {candidate} would become the champion; dry_run=true changed nothing.")
            return
        version = str(candidate.version.version)
        registry.find(client, name, version)  # it may have been deleted since
        _describe(run, candidate, champion, decision)
        beaten = str(champion.version.version) if champion else ""
        aliases.set_champion(client, name, version, beaten)
        run.set_tags({"decision": PROMOTED})
    address = f"models:/{name}@{CHAMPION}"
    say(f"{name} {candidate} is now the champion: {address}")
    if address != PredictionConfig.model_fields["model"].default:
        say(f"For predict and export: model={address}")
    if champion:
        say(f"The previous one, {champion}, is now models:/{name}@{PREVIOUS}.")


def _contest(
    run: LoggedRun, config: PromotionConfig, candidate: Contestant, champion: Contestant | None
) -> Decision:
    """Measure, decide, and keep the evidence in the promotion's run."""
    contestants = {"candidate": candidate} | ({"champion": champion} if champion else {})
    for contestant in contestants.values():
        contestant.check_files()
    run.log_models([each.model_id for each in contestants.values()])
    run.set_tags({key: f"{each.version.version}" for key, each in contestants.items()})
    runtime.configure("float32")
    test, unknown = test_images(candidate, champion)
    study_run, tags = candidate.study_run(), candidate.origin
    run.log_datasets(name=f"study {tags['study']}", url="", digests={"test": tags["test_digest"]})
    n = study_run.open_test(tags["trial_number"], f"promotion of {candidate}, run {run.run_id}")
    against = f" and the champion, {champion}," if champion else ""
    say(
        f"Evaluating {candidate}{against} on {len(test):,} test images of study {tags['study']} "
        f"(opened {n} time{'s' * (n > 1)}) …"
    )
    measured = dict(zip(contestants, measure(list(contestants.values()), test), strict=True))
    decision = decide(measured["candidate"], measured.get("champion"), config)
    for check in decision.checks:
        say(f"  {'passed' if check.passed else 'FAILED'}  {check.said}")
    if not champion:
        unknown = [*doubts_of_the_first(measured["candidate"].evaluation), *unknown]
    for note in unknown:
        say(f"  note    {note}")
    _log(run, test, {f"{k}, {contestants[k]}": m for k, m in measured.items()}, decision, unknown)
    run.log_metrics(
        decision.comparison
        | {f"{k}/{key}": value for k, m in measured.items() for key, value in m.numbers().items()},
        step=0,
        at=time.time(),
    )
    return decision


def _log(
    run: LoggedRun,
    test: Split,
    measured: Mapping[str, Measured],
    decision: Decision,
    unknown: list[str],
) -> None:
    evaluations = {name: each.evaluation for name, each in measured.items()}
    drawn = {
        "confusion_matrices.png": figures.confusion_matrices(evaluations),
        "f1_intervals.png": figures.f1_intervals(evaluations),
    }
    if len(evaluations) > 1:
        drawn["disagreements.png"] = figures.disagreements(test.images, evaluations)
    run.log_figures(drawn)
    run.log_json(
        {
            "promoted": decision.promoted,
            "checks": [{"passed": c.passed, "said": c.said} for c in decision.checks],
            "not_known": unknown,
            "comparison": decision.comparison,
            "measured": {
                name: each.numbers() | {"intervals": each.evaluation.intervals()}
                for name, each in measured.items()
            },
        },
        "decision.json",
    )
    arrays = {
        f"{name.split(',')[0]}_probabilities": e.probabilities for name, e in evaluations.items()
    }
    run.log_arrays(
        arrays | {"labels": test.labels, "origins": test.origins}, "test_predictions.npz"
    )
    run.set_tags({"reason": "; ".join(decision.reasons)})
    run.describe(_page(measured, decision))


def _page(measured: Mapping[str, Measured], decision: Decision) -> str:
    """Write the run's description in Markdown: what was compared, and what the gate said."""
    rows = {name: each.numbers() for name, each in measured.items()}
    keys = list(next(iter(rows.values())))
    lines = [
        "| | " + " | ".join(rows) + " |",
        "|---" * (len(rows) + 1) + "|",
        *(
            f"| {key.removeprefix('test_')} | "
            + " | ".join(f"{row[key]:.4g}" for row in rows.values())
            + " |"
            for key in keys
        ),
        "",
        *(
            f"- {'passed' if check.passed else '**failed**'}: {check.said}"
            for check in decision.checks
        ),
    ]
    return "\n".join(lines)


def _describe(
    run: LoggedRun, candidate: Contestant, champion: Contestant | None, decision: Decision
) -> None:
    """Record on the version why it may be the champion."""
    when, origin = _now(), candidate.origin
    against = f" against {champion}" if champion else ", as the first champion"
    text = (
        f"Trial {origin['trial_number']} of study {origin['study']} passed the gate on {when}"
        f"{against}: " + "; ".join(decision.reasons) + f". Evidence: run {run.run_id}."
    )
    name, version = candidate.version.name, candidate.version.version
    facts = {"at": when, "run": run.run_id, "reason": "; ".join(decision.reasons)}
    facts |= {key: f"{value:.4f}" for key, value in decision.comparison.items()}
    tags = {f"promotion.{key}": value for key, value in facts.items()}
    registry.tag(run.client, name, version, tags)
    registry.describe(run.client, name, version, text)


def _roll_back(client: store.Client, config: PromotionConfig) -> None:
    name = config.registered_model
    champion, before = aliases.champions(client, name)
    Contestant(client, before).check_files()
    if config.dry_run:
        say(f"Version {before.version} of {name} would replace {champion.version} again.")
        return
    with _run(client, config, f"roll back {name}") as run:
        aliases.restore(client, name, before.version)
        run.set_tags({"decision": ROLLED_BACK, "champion": before.version})
        tags = {"promotion.rolled_back_at": _now(), "promotion.rolled_back_run": run.run_id}
        registry.tag(client, name, champion.version, tags)
    say(f"{name} version {before.version} is the champion again: models:/{name}@{CHAMPION}")
    say(f"Version {champion.version} is no longer in use.")


@contextlib.contextmanager
def _run(client: store.Client, config: PromotionConfig, title: str) -> Iterator[LoggedRun]:
    """Yield a run for this promotion, adopted from `mlflow run` or new, and end it in any case."""
    run = LoggedRun(client, store.begin_run(client, title, config.to_params()))
    run.set_tags({"fer.command": "promote"})
    try:
        yield run
    except PromotionRefused as refused:
        run.set_tags({"decision": REFUSED, "reason": refused.message})
        run.end("FINISHED")
        raise
    except BaseException as error:
        if isinstance(error, FerSearchError):
            run.set_tags({"decision": REFUSED, "reason": error.message})
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.end("FINISHED")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
