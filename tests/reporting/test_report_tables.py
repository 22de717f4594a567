import dataclasses

from made import HOSTILE, trial

from fer_search.config import EMOTIONS
from fer_search.reporting import tables


def test_settings_say_their_default_where_they_have_another_value(whole):
    facts = {fact.name: (fact.value, fact.instead_of) for fact in tables.asked(whole)}
    assert facts["trials"] == ("3", "50")
    assert facts["epochs"] == ("20", "")
    assert "study" not in facts


def test_counts_sum_up(whole, splits):
    table = tables.counts(whole)
    assert [row[0] for row in table.rows] == [*EMOTIONS, "all"]
    assert table.rows[-1][1:] == tuple(
        str(len(part)) for part in (splits.train, splits.validation, splits.test)
    )


def test_what_was_left_out_is_told_with_examples(whole):
    dropped = {"copies": {"count": 1200, "examples": ["a", "b", "c"]}, "none": {"count": 0}}
    skipped = {"count": 1, "examples": [{"origin": "x.png", "reason": "is empty"}]}
    data = {**whole.data, "dropped": dropped, "skipped": skipped}
    assert tables.left_out(dataclasses.replace(whole, data=data)).rows == [
        ("copies", "a, b", "1,200"), ("unreadable", "x.png (is empty)", "1"),
    ]  # fmt: skip


def test_the_best_trials_come_first_with_the_most_important_parameters(whole):
    table = tables.top(whole)
    assert table.head[-2:] == ("dropout", "flip")
    assert table.rows == [
        ("1", "0.5000", "0.5000", "2", "1 min 1 s", "0.1", "no"),
        ("0", "0.3000", "0.3000", "1", "–", "0", "yes"),
    ]


def test_at_most_ten_trials_are_listed(whole):
    trials = [trial(number, "COMPLETE", number / 100) for number in range(30)]
    table = tables.top(dataclasses.replace(whole, trials=trials))
    assert [row[0] for row in table.rows] == [str(number) for number in range(29, 19, -1)]


def test_every_emotion_has_its_scores_and_that_on_validation(whole):
    seen, ends = whole.tested.evaluation, whole.tested.intervals["f1_angry"]
    table = tables.emotions(whole)
    assert table.rows[0][4:] == [
        f"{seen.f1[0]:.3f}", f"{ends[0]:.3f} to {ends[1]:.3f}", "0.125"
    ]  # fmt: skip
    untested = tables.emotions(dataclasses.replace(whole, tested=None))
    assert untested.head == ("emotion", "F1 on validation")
    assert untested.rows[:2] == [["angry", "0.125"], ["disgust", "–"]]


def test_cost_is_told_by_how_trials_ended(whole):
    assert tables.cost(whole).rows == [
        ("complete", "2", "3", "2 min 0 s", "40 s", "50 %"),
        ("pruned", "1", "3", "1 min 0 s", "20 s", "25 %"),
        ("failed", "1", "4", "1 min 0 s", "15 s", "25 %"),
        ("all", "4", "10", "4 min 0 s", "24 s", "100 %"),
    ]


def test_waiting_trials_have_a_row_so_that_the_rows_sum_up(whole):
    waiting = dataclasses.replace(trial(4, "WAITING"), started=None, ended=None)
    rows = tables.cost(dataclasses.replace(whole, trials=[*whole.trials, waiting])).rows
    assert rows[-2:] == [
        ("waiting", "1", "5", "0.0 s", "–", "0 %"),
        ("all", "5", "15", "4 min 0 s", "16 s", "100 %"),
    ]


def test_failures_are_grouped_by_their_reason_and_long_ones_cut(whole):
    again = {"failure.kind": "not_finite", "failure.message": HOSTILE}
    long = {"failure.kind": "out_of_memory", "failure.message": "no room\n" * 200}
    trials = [*whole.trials, trial(4, "FAIL", failure=long), trial(5, "FAIL", failure=again)]
    first, second = tables.failures(dataclasses.replace(whole, trials=trials)).rows
    assert first == ("not finite", HOSTILE, "3, 5")
    assert second[1].endswith("no room no roo …")
    assert len(second[1]) <= 400
    path = {"failure.message": "/" + "folder/" * 100 + " is full"}
    (row,) = tables.failures(
        dataclasses.replace(whole, trials=[trial(0, "FAIL", failure=path)])
    ).rows
    assert row[1].startswith("/folder/folder/")
    nameless = tables.failures(dataclasses.replace(whole, trials=[trial(0, "FAIL")]))
    assert nameless.rows == [("–", "no reason was recorded", "0")]


def test_the_environment_is_told_flat_and_the_commit_among_the_identities(whole):
    facts = [(fact.name, fact.value) for fact in tables.environment(whole)]
    assert facts == [("device", "an engine"), ("keras", "1.2")]
    assert ("commit", "c0ffee") in [(fact.name, fact.value) for fact in tables.identity(whole)]
