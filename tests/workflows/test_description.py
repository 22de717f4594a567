from fer_search.trial_points import TrialPoint
from fer_search.workflows.description import page


def point(number, state, value=None, epochs=3):
    return TrialPoint(
        number=number, state=state, value=value, run_id=f"r{number}", accuracy=value,
        params={"backbone": "vgg16", "optimizer": "sgd"},
        curve=dict.fromkeys(range(1, epochs + 1), 0.1),
    )  # fmt: skip


def test_a_study_that_begins_says_how_to_go_on():
    text = page([], "0", {"Go on after a stop": "mlflow run . -P study=s"})
    assert text == (
        "**Trials:** none has ended yet.\n\nGo on after a stop:\n\n    mlflow run . -P study=s"
    )


def test_the_best_trials_are_linked_best_first_and_the_others_counted():
    points = [point(n, "COMPLETE", n / 10) for n in range(7)]
    points += [point(7, "PRUNED", 0.9), point(8, "FAIL"), point(9, "RUNNING")]
    text = page(points, "4", {"Search on": "more"}, "Test said 0.5.")
    assert "**Trials:** 7 complete, 1 pruned, 1 failed." in text
    chosen = "Validation chose trial [6](#/experiments/4/runs/r6) with macro-F1 0.6000."
    assert f"{chosen} Test said 0.5." in text
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert [row.split("]")[0] for row in rows] == [f"| [{n}" for n in (6, 5, 4, 3, 2)]
    assert rows[0].endswith("| 0.6000 | 0.6000 | 3 | vgg16 | sgd |")
