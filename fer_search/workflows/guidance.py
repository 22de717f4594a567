"""What a search tells its user: how the study begins, how to resume it, and what to do next."""

from __future__ import annotations

import difflib
import math
from typing import Any

from fer_search.config import AUTO, RAY, SearchConfig
from fer_search.invocation import Invocation
from fer_search.study.studies import RDBStorage, study_names
from fer_search.study.study import Study
from fer_search.tracking import store
from fer_search.tracking.runs import StudyRun
from fer_search.trials import n_finished
from fer_search.workflows.finish import VERSION_TAG

COMPARE = "Compare the runs"
_DEFAULT_TRIALS = SearchConfig.model_fields["trials"].default


def beginning(
    storage: RDBStorage, found: Study | None, settings: SearchConfig, asked: SearchConfig
) -> str:
    """Say whether a study is new, as under a mistyped name, or how far it has come.

    Args:
        storage: Storage that may hold studies with similar names.
        found: The study, if it is not new.
        settings: The study's settings as they will be.
        asked: The request.
    """
    name = f"Study {settings.study}"
    if found is None:
        known = study_names(storage) if asked.study != AUTO else []
        like = difflib.get_close_matches(asked.study, known, n=3)
        if not like:
            return f"{name} is new"
        meant = f"if you meant {'that' if len(like) == 1 else 'one of them'}, press Ctrl-C"
        return f"{name} is new (there is {', '.join(like)}: {meant} and give study={like[0]})"
    done, default = n_finished(found.trials()), _DEFAULT_TRIALS
    own = "Its stored settings apply unless overridden"
    if asked.trials == default != settings.trials:
        own += f" (trials={default}, the default, overrides nothing)"
    if 0 < settings.timeout <= (used := found.facts["seconds_used"]):
        own += f". But timeout={settings.timeout:g} is used up ({used:.0f} s): set a larger one"
    if done < settings.trials:
        return f"{name} is resumed: {done} of {settings.trials} trials are finished. {own}."
    return f"{name} is complete: {done} trials are finished, {settings.trials} requested. {own}."


def resume_command(study: Study, asked: SearchConfig, invocation: Invocation) -> str:
    """Spell the command that resumes a study after a stop."""
    return invocation.command(
        "search", **_address(study, asked, invocation), **_where(study.search)
    )


def what_next(
    study: Study,
    study_run: StudyRun,
    asked: SearchConfig,
    invocation: Invocation,
    *,
    timed_out: bool,
) -> dict[str, str]:
    """Give the commands that a user may want when a search has ended, by what they do.

    Args:
        study: The study as it is now.
        study_run: Run of the study.
        asked: The request.
        invocation: How the command was started.
        timed_out: Whether the study's time ran out.
    """
    address = _address(study, asked, invocation)
    commands = {
        COMPARE: store.address(study_run.client),
        "Read the report": invocation.command("report", **address),
    }
    version = study_run.tags.get(VERSION_TAG)
    if version:
        name = study.search.registered_model
        promote = invocation.command("promote", registered_model=name, version=version)
        commands["Promote the model"] = promote
    more = as_much_again(study, timed_out=timed_out)
    extend = invocation.command("search", **address, **_where(study.search), **more)
    commands["Extend the search"] = extend
    return commands


def as_much_again(study: Study, *, timed_out: bool) -> dict[str, Any]:
    """Give the parameters with which a study would go on."""
    if timed_out:
        return {"timeout": 2 * math.ceil(study.facts["seconds_used"])}
    trials = 2 * max(study.search.trials, n_finished(study.trials()))
    return {"trials": trials + (trials == _DEFAULT_TRIALS)}  # the default would mean "as stored"


def _address(study: Study, asked: SearchConfig, invocation: Invocation) -> dict[str, str]:
    """Give what identifies a study: its name, and its storage if that is not the default."""
    default = SearchConfig(data="synthetic").anchored(invocation.directory).storage
    storage = {} if asked.storage == default else {"storage": asked.storage}
    return {"study": study.name, **storage}


def _where(search: SearchConfig) -> dict[str, str]:
    """Give the parameters for where workers run, if a resume must repeat them."""
    if search.launcher != RAY:
        return {}
    return {"launcher": search.launcher, "ray_address": search.ray_address}
