from fer_search.trials import TrialSummary
from fer_search.workflows.description import page


def trial(number, state, value=None, epochs=3):
    return TrialSummary(
        number=number, state=state, value=value, run_id=f"r{number}", accuracy=value,
        params={"backbone": "vgg16", "optimizer": "sgd"},
        curve=dict.fromkeys(range(1, epochs + 1), 0.1),
    )  # fmt: skip


def test_a_study_that_begins_says_how_to_go_on():
    text = page([], "0", {"Resume after a stop": "mlflow run . -P study=s"})
    assert text == (
        "**Trials:** none has finished yet.\n\nResume after a stop:\n\n    mlflow run . -P study=s"
    )


def test_the_best_trials_are_linked_best_first_and_the_others_counted():
    trials = [trial(n, "COMPLETE", n / 10) for n in range(7)]
    trials += [trial(7, "PRUNED", 0.9), trial(8, "FAIL"), trial(9, "RUNNING")]
    text = page(trials, "4", {"Extend the search": "more"}, "Test said 0.5.")
    assert "**Trials:** 7 complete, 1 pruned, 1 failed." in text
    chosen = "Best on validation: trial [6](#/experiments/4/runs/r6), macro-F1 0.6000."
    assert f"{chosen} Test said 0.5." in text
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert [row.split("]")[0] for row in rows] == [f"| [{n}" for n in (6, 5, 4, 3, 2)]
    assert rows[0].endswith("| 0.6000 | 0.6000 | 3 | vgg16 | sgd |")
