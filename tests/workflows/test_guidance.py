"""What a search says about the study that it opens, and about the next steps."""

import pytest

from fer_search.config import AUTO, SearchConfig
from fer_search.invocation import Invocation
from fer_search.study.studies import create_study, open_storage
from fer_search.workflows import guidance

URL = "sqlite:///o.db"


def begun(name, trials=2, finished=0):
    settings = SearchConfig(study=name, trials=trials, backbones="tiny", image_sizes="48")
    study = create_study(open_storage(URL), settings, {"run_id": "r", "seconds_used": 0.0})
    for _ in range(finished):
        trial = study.take()
        trial.prune()
    return study


def beginning(found, asked, **settings):
    asked = SearchConfig(study=asked, **settings)
    return guidance.beginning(open_storage(URL), found, found.search if found else asked, asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "tow",
            "Study tow is new (there is two: if you meant that, press Ctrl-C and give study=two)",
        ),
        ("first", "Study first is new"),
        (AUTO, "Study fer-20261126-101112 is new"),
    ],
)
def test_a_name_that_was_mistyped_is_told_of(asked, said):
    begun("two")
    begun("fer-20261126-101010")
    begun("auto-1")
    settings = SearchConfig(study="fer-20261126-101112" if asked == AUTO else asked)
    assert guidance.beginning(open_storage(URL), None, settings, SearchConfig(study=asked)) == said


def test_it_says_how_far_a_study_is_and_what_was_not_taken_over():
    study = begun("s", trials=3, finished=1)
    said = beginning(study, "s", trials=3)
    assert said.startswith("Study s is resumed: 1 of 3 trials are finished. Its stored settings")
    assert "(trials=50, the default, overrides nothing)" in beginning(study, "s")


def test_a_study_whose_time_is_up_says_so():
    study = begun("s")
    study.change(seconds_used=20.4, search=study.search.to_params() | {"timeout": "20"})
    assert "But timeout=20 is used up (20 s): set a larger one" in beginning(study, "s")
    assert guidance.as_much_again(study, timed_out=True) == {"timeout": 42}


@pytest.mark.parametrize(("trials", "more"), [(3, 6), (25, 51)])
def test_more_trials_are_never_the_default_which_would_mean_as_before(trials, more):
    assert guidance.as_much_again(begun("s", trials=trials), timed_out=False) == {"trials": more}


def test_a_complete_study_does_not_go_on():
    said = beginning(begun("s", trials=2, finished=2), "s", trials=2)
    assert said.startswith("Study s is complete: 2 trials are finished, 2 requested.")


def test_a_command_says_what_the_next_one_could_not_know(tmp_path):
    study = begun("s")
    invocation = Invocation(tmp_path, None, ("python", "-m", "fer_search"))
    asked = SearchConfig(study="s", data="synthetic").anchored(tmp_path)
    plain = "python -m fer_search search --study=s"
    assert guidance.resume_command(study, asked, invocation) == plain
    elsewhere = asked.model_copy(update={"storage": "sqlite:////d/o.db"})
    told = guidance.resume_command(study, elsewhere, invocation)
    assert told == f"{plain} --storage=sqlite:////d/o.db"
    cluster = {"launcher": "ray", "ray_address": "host:6379"}
    study.change(search=study.search.to_params() | cluster)
    told = guidance.resume_command(study, asked, invocation)
    assert told == f"{plain} --launcher=ray --ray_address=host:6379"
