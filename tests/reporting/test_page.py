"""Pages as a browser parses them: complete, self-contained, and free of injected code."""

import dataclasses

import pytest
from made import HOSTILE, answers, trial
from pages import Page

from fer_search.reporting.page import render

SECTIONS = (
    "Settings", "Data", "Best trials", "Search progress", "Parameter importance", "Test results",
    "Most confident mistakes", "Cost", "Failures", "Test set openings", "Environment",
    "To reproduce",
)  # fmt: skip
FIGURES = (
    "Search history", "Best so far over time", "Trials over their epochs", "Epochs per trial",
    "Parameter importances", "Parallel coordinates", "Parameters and objective",
    "Learning curves", "F1 on test", "Trial 1 on test", "Confidence and accuracy",
)  # fmt: skip


@pytest.fixture(scope="module")
def html(whole):
    return render([whole])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_everything_known_is_shown(page, whole):
    assert all(section in page.text for section in SECTIONS)
    assert not [figure for figure in FIGURES if not any(a.startswith(figure) for a in page.alts)]
    seen = whole.tested.evaluation
    low, high = seen.intervals()["macro_f1"]
    for said in (
        f"test macro-F1 {seen.macro_f1:.3f} 95 %: {low:.3f}–{high:.3f}",
        f"recognises {100 * seen.accuracy:.1f} % of 42 test images",
        "finished trials 3 1 pruned; 1 failed",
        "time at work 1.1 h 10 epochs",
        "A miniature network on synthetic faces: all 3 trials finished.",
        "1 pruned trial trained 3 epochs. At 2 epochs each",
        "was opened once",
        "2026-11-22 21:11:36 UTC 1 chosen by validation",
        "an engine",
        "at commit c0ffee:",
        "mlflow run . -P trials=3 -P data=synthetic -P backbones=tiny",
    ):
        assert said in page.text, said
    assert "not available" not in page.text


def test_it_needs_no_network_no_script_and_no_other_file(page, html):
    assert len(html) < 3e6
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert "url(" not in html
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)


def test_mistakes_are_shown_the_surest_first(page, whole):
    seen = whole.tested.evaluation
    wrong = seen.predictions != seen.labels
    shown = [alt for alt in page.alts if alt.startswith("faces/")]
    assert shown[0] == whole.tested.origins[(seen.probabilities.max(axis=1) * wrong).argmax()]
    assert len(shown) == min(24, wrong.sum())
    assert f"trial 1 got {wrong.sum()} wrong" in page.text


def test_other_peoples_text_stays_text(whole, splits):
    bad = [f"<img src=x onerror=alert({i})>\udcff" for i in range(len(splits.test))]
    trials = [*whole.trials, trial(4, "COMPLETE", 0.9)]
    awkward = dataclasses.replace(
        whole, tested=answers(splits, origins=bad), trials=trials, no_images=HOSTILE, splits=None
    )
    html = render([awkward])
    assert html.encode("utf-8")
    page = Page(html)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) == 3
    assert "<img src=x onerror=alert(" in page.text
    assert not any(alt.startswith("Training images") for alt in page.alts)
    assert "Trial 1, chosen earlier, recognises" in page.text
    assert "Another trial is now better on validation" in page.text


def test_data_that_were_described_by_an_earlier_version_are_counted(whole):
    described = dict(whole.data)
    count = described["pictures"] = described.pop("images")
    text = Page(render([dataclasses.replace(whole, data=described)])).text
    assert f"{count:,} images" in text


def test_a_test_that_was_opened_is_never_called_unopened(whole):
    killed_while_testing = dataclasses.replace(whole, tested=None)
    text = Page(render([killed_while_testing])).text
    assert "The test set was opened for it, but the study run has no predictions." in text
    assert "The test set was opened (see below)" in text
    unopened = ("not been opened", "not opened yet", "before the test set is")
    assert not any(said in text for said in unopened)
    assert "stored predictions" not in text
    since_promoted = dataclasses.replace(
        whole,
        trials=[*whole.trials, trial(4, "COMPLETE", 0.9)],
        openings=[*whole.openings, {"trial": 4, "at": "now", "why": "promotion of version 4"}],
    )
    text = Page(render([since_promoted])).text
    assert "better on validation, but the study run has no test predictions of it." in text


def test_the_command_names_the_backend_if_it_is_not_the_default(whole):
    def command(**environment):
        return dataclasses.replace(whole, environment=environment).command

    assert command() == command(backend="tensorflow")
    assert command(backend="jax") == f"KERAS_BACKEND=jax {command()}"


def test_a_study_whose_first_trial_runs_was_at_work(begun):
    facts = begun.facts | {"seconds_used": 0.0}
    running = [dataclasses.replace(trial(0, "RUNNING"), started=100.0)]
    early = dataclasses.replace(begun, facts=facts, trials=running, made=100 + 2 * 3600.0)
    assert "time at work 2.0 h 1 epoch" in Page(render([early])).text


def test_studies_side_by_side_have_a_chapter_each_and_missing_pieces_are_said(whole, begun):
    page = Page(render([whole, begun]))
    assert len(set(page.ids)) == len(page.ids)
    assert page.text.count("To reproduce") == 2
    first, second = page.text.split("Study begun VGG16 and ResNet50 on FER2013")
    assert "The budget differs" in first
    for said in (
        "0 of 50 trials finished, 1 still running. No trial is complete",
        "has no data.json",
        "The images are not available: they are elsewhere.",
        "The test set has not been opened in this study",
        "No trial failed.",
        "Test set openings Never.",
        "does not record its environment",
        "In a checkout of fer_search:",
    ):
        assert said in second, said
