import contextlib
import dataclasses
import os
import re

import pytest
from rich.console import Console

from fer_search import progress, terminal_tables
from fer_search.retention import StoredModel, Verdict, Version
from fer_search.trials import TrialSummary


def trial(number, state, curve=(), value=None, **more):
    return TrialSummary(
        number=number, state=state, value=value, params={"backbone": "vgg16"},
        curve=dict(enumerate(curve, start=1)), **more,
    )  # fmt: skip


@pytest.fixture
def plain(monkeypatch):
    console = Console(force_terminal=False, soft_wrap=True, record=True)
    monkeypatch.setattr(progress, "console", console)
    return console


STORY = [
    [],
    [trial(0, "RUNNING")],
    [trial(0, "RUNNING", [0.1], progress=(1, 5, 10))],
    [trial(0, "RUNNING", [0.1], progress=(2, 5, 10))],
    [trial(0, "COMPLETE", [0.1, 0.2], 0.2), trial(1, "RUNNING")],
    [trial(0, "COMPLETE", [0.1, 0.2], 0.2), trial(1, "PRUNED", [0.05], 0.05)],
    [
        trial(0, "COMPLETE", [0.1, 0.2], 0.2),
        trial(1, "PRUNED", [0.05], 0.05),
        trial(2, "FAIL", failure={"failure.message": "the loss became\nNaN"}),
    ],
]


def test_elsewhere_than_in_a_terminal_every_event_is_one_plain_line(plain):
    with progress.Progress([], n_trials=3, epochs=2) as shown:
        for trials in STORY:
            shown.update(trials)
    lines = plain.export_text().splitlines()
    assert lines[:2] == [
        "trial 0 vgg16 · started",
        "trial 0 vgg16 · epoch 1 of 2 · macro-F1 0.1000",
    ]
    assert lines[2] == "trial 0 vgg16 · epoch 2 of 2 · macro-F1 0.2000", (
        "though it had ended by then"
    )
    assert lines[3].startswith(
        "trial 0 complete: its stored model has macro-F1 0.2000 · 1 of 3 trials · best macro-F1"
    )
    assert lines[4] == "trial 1 vgg16 · started"
    assert lines[5] == "trial 1 vgg16 · epoch 1 of 2 · macro-F1 0.0500"
    assert "2 of 3 trials (1 pruned)" in lines[6]
    assert lines[7] == "trial 2 vgg16 · started"
    assert lines[8].startswith("trial 2 failed: the loss became NaN · 2 of 3 trials (1 pruned, 1 ")
    assert len(lines) == 9


def test_a_trial_that_goes_on_is_told_of_from_where_it_was(plain):
    before = [trial(0, "WAITING", [0.1, 0.2])]
    with progress.Progress(before, n_trials=3, epochs=4) as shown:
        shown.update(before)
        shown.update([trial(0, "RUNNING", [0.1, 0.2, 0.3])])
    assert plain.export_text().splitlines() == [
        "trial 0 vgg16 · resumes after epoch 2 of 4",
        "trial 0 vgg16 · epoch 3 of 4 · macro-F1 0.3000",
    ]


def test_in_a_terminal_of_80_columns_the_panel_tells_all(monkeypatch):
    console = Console(force_terminal=True, width=80, record=True, soft_wrap=True)
    monkeypatch.setattr(progress, "console", console)
    trials = [trial(n, "COMPLETE", [0.1], 0.1) for n in range(110)]
    trials += [trial(n, "PRUNED", [0.1], 0.1) for n in range(110, 120)]
    trials += [trial(120, "FAIL"), trial(121, "RUNNING", [0.1] * 10, progress=(11, 500, 1000))]
    with progress.Progress([], n_trials=500, epochs=20) as shown:
        monkeypatch.setattr(shown, "_started", shown._started - 50_000)
        shown._live.update(shown._panel(trials), refresh=True)
    text = console.export_text()
    assert "epoch 11 of 20, batch 500 of 1000 · macro-F1 0.1000" in text
    assert "120 of 500 trials (10 pruned, 1 failed) · best macro-F1 0.1000 (trial 0)" in text
    assert re.search(r"13:53:2\d so far · about 1 day, 19:\d\d:\d\d left", text)


def test_in_a_terminal_every_trial_that_has_ended_keeps_a_line(monkeypatch):
    console = Console(force_terminal=True, width=80, record=True, soft_wrap=True)
    monkeypatch.setattr(progress, "console", console)
    with progress.Progress([], n_trials=3, epochs=2) as shown:
        for trials in [*STORY, STORY[-1]]:
            shown.update(trials)
    text = console.export_text()
    for ended in (
        "trial 0 complete: its stored model has macro-F1 0.2000\n",
        "trial 1 pruned: the last epoch had macro-F1 0.0500\n",
        "trial 2 failed: the loss became NaN\n",
    ):
        assert text.count(ended) == 1


def test_what_was_done_before_takes_no_time(plain):
    before = [trial(0, "COMPLETE", [0.1], 0.1)]
    with progress.Progress(before, n_trials=3, epochs=2) as shown:
        shown.update(before)
    assert plain.export_text() == ""
    assert shown._time_left(before, elapsed=100) == ""


def test_the_table_ranks_complete_trials():
    trials = [
        trial(0, "COMPLETE", [0.1], 0.1, accuracy=0.3),
        trial(1, "PRUNED", [0.9], 0.9),
        trial(2, "COMPLETE", [0.1, 0.5], 0.5, accuracy=0.6),
        trial(3, "WAITING"),
    ]
    console = Console(width=120, record=True)
    console.print(terminal_tables.top_trials(trials))
    text = console.export_text()
    assert "Top 2 of 3 trials" in text, "what has not begun does not count"
    assert text.index("0.5000") < text.index("0.1000")
    assert "0.9000" not in text


def test_the_table_of_models_says_what_becomes_of_each():
    version = Version(name="fer-emotion", number="3", source="models:/m-1", uses=("champion",))
    kept = StoredModel(
        model_id="m-1", name="vgg16-trial-001", study="s", study_run_id="r", trial=1, run_id="t",
        score=0.61234, location="/m-1", size=60_000_000, versions=(version,),
    )  # fmt: skip
    gone = dataclasses.replace(kept, name="vgg16-trial-002", score=None, size=1, versions=())
    verdicts = [Verdict(kept, False, "number 1"), Verdict(gone, True, "not [among] the best")]
    console = Console(width=120, record=True)
    console.print(terminal_tables.stored_models("Study s", verdicts))
    title, _, _, _, first, second, *_ = console.export_text().splitlines()
    assert title.strip() == "Study s: 2 stored, 60.0 MB"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in (first, second)]
    assert cells == [
        ["vgg16-trial-001", "0.6123", "60.0", "fer-emotion/3", "keep: number 1"],
        ["vgg16-trial-002", "", "0.0", "", "delete: not [among] the best"],
    ]


def test_commands_are_not_broken_into_lines(plain):
    progress.say("x" * 300 + " [bold]")
    assert plain.export_text() == "x" * 300 + " [bold]\n"


def test_a_terminal_that_is_closed_does_not_hide_the_stop(monkeypatch):
    master, terminal = os.openpty()
    file = open(terminal, "w")  # noqa: SIM115, closing it also fails
    monkeypatch.setattr(progress, "console", Console(file=file, force_terminal=True))

    def stopped():
        with progress.Progress([], n_trials=2, epochs=2) as shown:
            shown.update([trial(0, "RUNNING")])
            os.close(master)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with contextlib.suppress(OSError):
        file.close()
