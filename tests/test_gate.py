import numpy as np
import pytest

from fer_search.command_config import PromotionConfig
from fer_search.config import EMOTIONS
from fer_search.gate import GUESSING, Measured, decide, doubts_of_the_first
from fer_search.results import Evaluation

LABELS = np.repeat(np.arange(7), 100)


def measured(hits=60, *, megabytes=10.0, milliseconds=5.0, sure=0.6, **hits_of):
    """A model that recognises `hits` of each emotion's 100 images and takes the rest for the next
    emotion; `hits_of` overrides single emotions."""
    numbers = [hits_of.get(name, hits) for name in EMOTIONS]
    rows = np.tile(np.arange(100), 7)
    right = rows < np.repeat(numbers, 100)
    predictions = np.where(right, LABELS, (LABELS + 1) % 7)
    probabilities = np.full((700, 7), (1 - sure) / 6)
    probabilities[np.arange(700), predictions] = sure
    return Measured(
        evaluation=Evaluation(LABELS, probabilities), megabytes=megabytes, milliseconds=milliseconds
    )


def decision(candidate, champion=None, **policy):
    return decide(candidate, champion, PromotionConfig(**policy))


def test_the_first_model_needs_the_floors_alone():
    assert decision(measured(1)).promoted
    assert decision(measured(1)).comparison == {}
    refused = decision(measured(60, sad=20), min_f1=0.3)
    assert not refused.promoted
    assert refused.reasons == ["F1 of sad 0.2500 (needed: 0.3)"]
    assert not decision(measured(60), min_macro_f1=0.61).promoted
    assert decision(measured(60), min_macro_f1=0.6).promoted


def test_a_first_model_near_guessing_is_told_of():
    shares = np.array([5, 1, 5, 9, 6, 6, 3]) / 35
    labels, guesses = np.random.default_rng(0).choice(7, p=shares, size=(2, 20_000))
    assert Evaluation(labels, np.eye(7)[guesses]).macro_f1 == pytest.approx(GUESSING, abs=0.005)
    assert len(doubts_of_the_first(measured(60).evaluation)) == 1
    _, doubt = doubts_of_the_first(measured(15).evaluation)
    assert "may be no better than guessing, 0.143: it is between 0.12" in doubt


def test_a_clearly_better_model_is_promoted_and_says_by_how_much():
    won = decision(measured(70), measured(60))
    assert won.promoted
    assert won.comparison["gain_macro_f1"] == pytest.approx(0.1)
    assert 0 < won.comparison["gain_macro_f1_lower"] < 0.1
    assert "macro-F1 +0.1000 against the champion" in won.reasons[0]


@pytest.mark.parametrize("hits", [60, 50])
def test_a_model_that_is_not_better_is_refused(hits):
    lost = decision(measured(hits), measured(60))
    assert not lost.promoted
    assert "needed: more than 0)" in lost.reasons[0]


def test_a_smaller_model_may_be_asked_not_to_be_much_worse():
    assert decision(measured(60), measured(60), min_gain=-0.01).promoted
    assert not decision(measured(50), measured(60), min_gain=-0.01, max_f1_drop=1).promoted


def test_a_gain_that_must_be_larger_is_bounded_by_the_interval_not_by_the_mean():
    assert decision(measured(70), measured(60), min_gain=0.05).promoted
    assert not decision(measured(70), measured(60), min_gain=0.09).promoted


def test_no_emotion_may_pay_for_the_others():
    champion = measured(60)
    refused = decision(measured(75, disgust=30), champion)
    assert [reason[:15] for reason in refused.reasons] == ["F1 of disgust -"]
    assert decision(measured(75, disgust=30), champion, max_f1_drop=0.3).promoted


def test_accuracy_must_not_fall_beyond_chance():
    """Macro-F1 rises with rare emotions while the frequent ones lose."""
    labels = np.repeat(np.arange(7), [2000, *([10] * 6)])
    rng = np.random.default_rng(0)

    def model(common, rare):
        right = rng.random(len(labels)) < np.where(labels == 0, common, rare)
        wrong = np.where(labels == 0, 1 + rng.integers(6, size=len(labels)), (labels % 6) + 1)
        predictions = np.where(right, labels, wrong)
        return Measured(
            evaluation=Evaluation(labels, np.eye(7)[predictions]), megabytes=1, milliseconds=1
        )

    champion, candidate = model(0.97, 0.1), model(0.9, 0.95)
    refused = decision(candidate, champion, max_f1_drop=1)
    assert refused.comparison["gain_macro_f1_lower"] > 0
    assert refused.comparison["mcnemar_p"] < 0.05
    (reason,) = refused.reasons
    assert reason.startswith("accuracy -")


@pytest.mark.parametrize(
    ("limit", "value", "name"),
    [
        ("max_megabytes", 9.9, "megabytes 10"),
        ("max_milliseconds", 4.9, "milliseconds per image 5"),
        ("max_calibration_error", 0.29, "calibration error 0.3"),
    ],
)
def test_limits_hold_where_they_are_given(limit, value, name):
    candidate = measured(60, sure=0.9)
    (reason,) = decision(candidate, **{limit: value}).reasons
    assert reason.startswith(name)
    assert decision(candidate, **{limit: value + 0.2}).promoted
    assert decision(candidate, **{limit: 0}).promoted
