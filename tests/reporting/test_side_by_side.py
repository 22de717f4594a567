import dataclasses

import pytest
from made import answers
from pages import Page

from fer_search.comparison import macro_f1_gain
from fer_search.reporting.page import render
from fer_search.reporting.side_by_side import compare


def other(whole, **changes):
    settings = {"study": "other"} | changes.pop("settings", {})
    search = type(whole.search)(**whole.search.to_params() | settings)
    return dataclasses.replace(whole, search=search, **changes)


def test_the_best_on_the_same_images_is_held_against_the_others(whole, splits):
    better = other(whole, tested=answers(splits, skill=1.0), settings={"pruner": "hyperband"})
    comparison = compare([whole, better])
    assert comparison.warnings == []
    evaluations = better.tested.evaluation, whole.tested.evaluation
    gain = macro_f1_gain(*evaluations, confidence=0.975)
    ((name, told, lower, verdict, _),) = comparison.gains.rows
    assert (name, verdict) == ("other over whole", "yes")
    assert (told, lower) == (f"{gain.gain:+.3f}", f"{gain.lower:+.3f}")
    assert comparison.settings.rows == [("pruner", "asha", "hyperband")]
    assert comparison.f1 is not None


def test_the_same_model_is_not_ahead_of_itself(whole):
    (row,) = compare([whole, other(whole)]).gains.rows
    assert row[1:4] == ("+0.000", "+0.000", "no")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"settings": {"epochs": 3, "timeout": 60}},
            "The budget differs: timeout: 0 (whole), 60 (other); epochs: 20 (whole), 3 (other).",
            id="budget",
        ),
        pytest.param(
            {"trials": []},
            "Their progress differs; finished trials: 3 (whole), 0 (other).",
            id="progress",
        ),
        pytest.param({"facts": {"space": "0"}}, "They searched different spaces.", id="space"),
        pytest.param(
            {"environment": {"device": "a brain"}},
            "They ran on different devices, so their times cannot be compared: "
            "an engine (whole), a brain (other).",
            id="device",
        ),
        pytest.param(
            {"facts": {"train_digest": "0"}},
            "The images for training and validation differ, so scores on validation cannot be "
            "compared: trained on 336 of synthetic (whole), 336 of synthetic (other).",
            id="train",
        ),
    ],
)
def test_what_makes_scores_differ_is_said(whole, changes, said):
    facts = {"facts": whole.facts | changes["facts"]} if "facts" in changes else {}
    assert compare([whole, other(whole, **changes | facts)]).warnings == [said]


def test_other_test_images_forbid_a_comparison_on_them(whole):
    elsewhere = other(whole, facts=whole.facts | {"test_digest": "0"}, data={})
    comparison = compare([whole, elsewhere])
    assert comparison.warnings == [
        "The test images differ, so scores on test cannot be compared: "
        "42 of synthetic (whole), an unknown number of synthetic (other)."
    ]
    assert (comparison.gains, comparison.f1) == (None, None)


@pytest.mark.slow
def test_studies_tested_on_the_same_images_are_compared_beside_one_on_others(whole, splits):
    better = other(whole, tested=answers(splits, skill=1.0))
    elsewhere = other(
        whole, facts=whole.facts | {"test_digest": "0"}, settings={"study": "elsewhere"}
    )
    studies = [elsewhere, whole, better]
    comparison = compare(studies)
    assert [row[0] for row in comparison.gains.rows] == ["other over whole"]
    assert comparison.f1 is None
    text = Page(render(studies)).text
    assert "other over whole" in text
    assert "No two of these studies" not in text


def test_a_study_without_a_score_has_none_to_show(whole, begun):
    comparison = compare([whole, begun])
    results = {row[0]: row[1:] for row in comparison.results.rows}
    assert results["macro-F1 on test (95 % interval)"][1] == "–"
    assert results["best macro-F1 on validation"] == ("0.500", "–")
    assert comparison.gains is None
