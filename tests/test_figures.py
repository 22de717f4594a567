import io
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fer_search.config import EMOTIONS
from fer_search.figures import study as study_figures
from fer_search.figures import trial as trial_figures
from fer_search.results import EpochMetrics, Evaluation, TrialPoint

OF_TRIALS = [
    study_figures.optimization_history,
    study_figures.parameters,
    study_figures.trial_curves,
]


def trial(number, state="COMPLETE", value=None, params=None, n_epochs=3):
    if value is None and state in ("COMPLETE", "PRUNED"):
        value = 0.3 + 0.01 * (number % 30)
    backbone = ("vgg16", "resnet50")[number % 3 == 0]
    return TrialPoint(
        number=number,
        state=state,
        value=value,
        params={
            "backbone": backbone,
            f"unfreeze_depth_{backbone}": number % 6,
            "learning_rate": 10.0 ** -(1 + number % 5),
            "augmentation.flip": number % 5 > 2,
            "dropout": 0.4,
        }
        if params is None
        else params,
        curve={epoch: 0.1 * epoch for epoch in range(1, n_epochs + 1)},
    )


MANY = [trial(number, ("COMPLETE", "PRUNED", "PRUNED", "FAIL")[number % 4]) for number in range(50)]
STUDIES = [
    pytest.param([], id="none"),
    pytest.param([trial(0)], id="one"),
    pytest.param(MANY, id="many"),
    pytest.param([trial(0, "RUNNING", n_epochs=0), trial(1, "WAITING", n_epochs=0)], id="begun"),
    pytest.param(
        [trial(3, "PRUNED", n_epochs=1), trial(4, "FAIL", n_epochs=0)], id="none_complete"
    ),
    pytest.param([trial(n, value=0.5, params={"x": 1.5}) for n in range(3)], id="constant"),
    pytest.param([trial(n, params={}, n_epochs=0) for n in range(2)], id="no_parameters"),
    pytest.param([trial(0, params={"x": 1}), trial(1, params={"x": "auto"})], id="mixed_types"),
    pytest.param([trial(0, params={"x": -1.0}), trial(1, params={"x": 1e9})], id="below_zero"),
]


def evaluation(labels, n_pictures=1):
    labels = np.repeat(labels, n_pictures)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(EMOTIONS)), len(labels))
    return Evaluation(labels, probabilities)


def epoch(number):
    return EpochMetrics(
        epoch=number,
        loss=2 / number,
        accuracy=0.4,
        val_loss=1.5,
        val_accuracy=0.4,
        val_macro_f1=0.3,
        learning_rate=1e-3,
        images_per_second=100.0,
    )


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def words(figure):
    """Every visible text of a drawn figure."""
    figure.draw_without_rendering()
    return {
        text.get_text()
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text()
    }


def assert_inside(figure):
    """No text leaves the picture."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    drawn = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    for text in drawn:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y1 <= figure.bbox.height, text


@pytest.mark.parametrize("trials", STUDIES)
@pytest.mark.parametrize("draw", OF_TRIALS)
def test_every_study_can_be_drawn(draw, trials):
    figure = draw(trials)
    assert Image.open(io.BytesIO(png(figure))).format == "PNG"
    if not any(trial.state == "COMPLETE" for trial in trials):
        assert any(study_figures.NOTHING in text for text in words(figure))


@pytest.mark.parametrize(
    ("draw", "title", "names"),
    [
        (study_figures.optimization_history, "Search history", {"trial", "best so far", "failed"}),
        (
            study_figures.parameters,
            "Parameters and objective",
            {"learning_rate", "resnet50", "True"},
        ),
        (study_figures.trial_curves, "Trials over their epochs", {"epoch", "best: trial 28"}),
    ],
)
def test_figures_of_a_study_say_what_they_show(draw, title, names):
    figure = draw(MANY)
    said = words(figure)
    assert {title, "validation macro-F1", *names} <= said
    facts = "13 complete  ·  25 pruned  ·  12 failed  ·  best: trial 28 with 0.580"
    assert facts in said
    assert_inside(figure)


def test_pruned_trials_are_dashed_and_the_best_stands_out():
    lines = study_figures.trial_curves(MANY).axes[0].lines
    assert sum(line.get_linestyle() == "--" for line in lines) == 25
    thickest = max(lines, key=lambda line: line.get_linewidth())
    assert thickest.get_zorder() == max(line.get_zorder() for line in lines)


def test_best_so_far_never_falls():
    trials = [trial(number, value=value) for number, value in enumerate([0.3, 0.5, 0.2, 0.6])]
    (line,) = study_figures.optimization_history(trials[::-1]).axes[0].lines
    assert list(line.get_ydata()) == [0.3, 0.5, 0.5, 0.6, 0.6]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        pytest.param([1e-5, 1e-4, 1e-3, 1e-2], "log", id="many_powers"),
        pytest.param([0.01, 0.2, 0.3, 0.5], "linear", id="evenly_spread"),
        pytest.param([0.0, 1e-4, 1e-2], "linear", id="with_zero"),
    ],
)
def test_only_wide_parameters_have_a_log_scale(values, scale):
    trials = [trial(number, params={"x": value}) for number, value in enumerate(values)]
    assert study_figures.parameters(trials).axes[0].get_xscale() == scale


@pytest.mark.parametrize("importances", [{}, {"dropout": 0.0}, {"a": 0.2, "b": 0.8}])
def test_importances_are_ranked(importances):
    figure = study_figures.parameter_importances(importances)
    assert png(figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == sorted(importances, key=importances.get)
    assert ("too few completed trials yet" in words(figure)) == (not importances)


@pytest.mark.parametrize("draw", [trial_figures.confusion_matrix, trial_figures.per_emotion_f1])
@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(evaluation(range(7), 5_000), id="many"),
        pytest.param(evaluation([3]), id="one_picture"),
        pytest.param(evaluation([0, 6], 10), id="absent_emotions"),
        pytest.param(
            Evaluation(np.arange(7).repeat(4_000), np.eye(7).repeat(4_000, 0)), id="right"
        ),
    ],
)
def test_every_evaluation_can_be_drawn(draw, seen):
    figure = draw(seen, "Trial 7 on validation")
    assert png(figure)
    assert {"Trial 7 on validation", *EMOTIONS} <= words(figure)
    assert_inside(figure)


def test_confusion_has_counts_shares_recall_and_f1():
    predictions = np.eye(7)[[0, 0, 0, 1, 1]]
    figure = trial_figures.confusion_matrix(
        Evaluation(np.array([0, 0, 0, 0, 1]), predictions), "Test"
    )
    said = [text.get_text() for text in figure.axes[0].texts]
    assert {"3", "75%", "25%", "recall", "F1"} <= set(said)
    assert "0.75" in said  # recall of angry
    assert "0.86" in said  # its F1: 2 * 3 / (3 + 4)
    assert said.count("–") == 5  # no recall without pictures


@pytest.mark.parametrize(("n_epochs", "best"), [(0, None), (1, 1), (1, None), (40, 17)])
def test_learning_curves_of_any_length(n_epochs, best):
    figure = trial_figures.learning_curves([epoch(number + 1) for number in range(n_epochs)], best)
    assert png(figure)
    said = words(figure)
    assert "Learning curves" in said
    assert any(text.startswith(f"best epoch {best}: ") for text in said) == (best is not None)
    assert ("no epoch yet" in said) == (n_epochs == 0)


def test_one_epoch_is_drawn_as_points():
    for axes in trial_figures.learning_curves([epoch(1)], None).axes:
        assert all(line.get_marker() == "o" for line in axes.lines)


@pytest.mark.parametrize(("n_pictures", "n_variations"), [(1, 1), (7, 3), (3, 0)])
def test_augmentation_shows_every_variation(n_pictures, n_variations):
    originals = np.zeros((n_pictures, 48, 48), np.uint8)
    augmented = np.full((n_variations, n_pictures, 48, 48), 300.0)
    figure = trial_figures.augmentation(originals, augmented, np.arange(n_pictures))
    assert png(figure)
    assert sum(len(axes.images) for axes in figure.axes) == n_pictures * (1 + n_variations)
    assert {"What the network saw", "original", *EMOTIONS[:n_pictures]} <= words(figure)


@pytest.mark.parametrize(
    ("originals", "augmented", "labels"),
    [((0, 48, 48), (1, 0, 48, 48), 0), ((2, 48, 48), (1, 3, 48, 48), 2), ((2, 48, 48), (2,), 1)],
)
def test_augmentation_refuses_what_does_not_belong_together(originals, augmented, labels):
    with pytest.raises(ValueError, match="expected originals"):
        trial_figures.augmentation(np.zeros(originals), np.zeros(augmented), np.zeros(labels, int))


def test_drawing_leaves_the_settings_of_others_alone():
    before = settings()
    for draw in OF_TRIALS:
        png(draw(MANY))
    assert settings() == before


def settings():
    # looking at "backend" would choose one
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def test_drawing_needs_no_pyplot():
    root = Path(study_figures.__file__).parents[2]
    script = (
        "import sys, fer_search.figures.study, fer_search.figures.trial; "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], cwd=root) == b"False\n"
