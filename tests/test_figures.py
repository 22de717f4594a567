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
from fer_search.figures import cost as cost_figures
from fer_search.figures import study as study_figures
from fer_search.figures import trial as trial_figures
from fer_search.figures.embedding import embedded
from fer_search.figures.parallel import parallel_coordinates
from fer_search.results import EpochMetrics, Evaluation
from fer_search.trials import TrialSummary

OF_TRIALS = [
    study_figures.optimization_history,
    study_figures.parameters,
    study_figures.trial_curves,
]


def best_over_time(trials):
    return cost_figures.best_over_time({"s": trials}, now=1e6)


def parallel(trials):
    return parallel_coordinates(trials, {"learning_rate": 0.6})


def epochs_by_trial(trials):
    return cost_figures.epochs_by_trial(trials, most=20)


def trial(number, state="COMPLETE", value=None, params=None, n_epochs=3):
    if value is None and state in ("COMPLETE", "PRUNED"):
        value = 0.3 + 0.01 * (number % 30)
    backbone = ("vgg16", "resnet50")[number % 3 == 0]
    return TrialSummary(
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
        started=None if state == "WAITING" else 100.0 * number,
        ended=100.0 * number + 90 if state in ("COMPLETE", "PRUNED", "FAIL") else None,
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


def evaluation(labels, n_images=1):
    labels = np.repeat(labels, n_images)
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
    """All visible texts of a drawn figure."""
    figure.draw_without_rendering()
    return {
        text.get_text()
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text()
    }


def assert_inside(figure):
    """Assert that all text is inside the figure."""
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
@pytest.mark.parametrize("draw", [*OF_TRIALS, best_over_time, parallel])
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


@pytest.mark.parametrize("trials", STUDIES)
def test_epochs_of_every_study_can_be_drawn(trials):
    assert png(epochs_by_trial(trials))


def test_epochs_say_what_pruning_saved():
    trials = [trial(0, n_epochs=8), trial(1, "PRUNED", n_epochs=3), trial(2, "FAIL", n_epochs=1)]
    figure = epochs_by_trial(trials)
    assert {"12 epochs in total  ·  about 5 saved by pruning", "saved", "failed"} <= words(figure)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [8, 3, 5, 1]
    assert_inside(figure)


def test_the_best_of_several_studies_is_drawn_over_time_and_over_trials():
    figure = cost_figures.best_over_time({"one": MANY, "two": MANY[:9], "none": []}, now=1e6)
    over_time, over_trials = figure.axes
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert {"one", "two", "minutes at work", "finished trials"} <= words(figure)
    last = [line.get_xdata()[-1] for line in over_trials.lines]
    assert last == [38, 7]
    assert over_time.lines[0].get_xdata()[-1] == pytest.approx(50 * 90 / 60)


def test_the_best_trial_stands_out_among_parallel_ones_and_the_unused_is_named():
    figure = parallel(MANY)
    (axes,) = figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 13
    assert max(lines, key=lambda line: line.get_linewidth()) is lines[-1]
    assert lines[-1].get_ydata()[-1] == 1, "the best one has the highest value"
    assert "not used" in words(figure)
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert (names[0], names[-1]) == ("learning_rate", "macro-F1")
    assert_inside(figure)


def test_names_that_look_like_formulas_are_drawn_as_they_are():
    hostile = r"$\bad{$"
    trials = [trial(n, params={hostile: n, "x": f"$\\{n}$"}) for n in range(9)]
    for figure in (
        parallel(trials),
        study_figures.parameters(trials),
        study_figures.parameter_importances({hostile: 0.5}),
    ):
        assert png(figure)


def test_few_slices_can_be_asked_for():
    figure = study_figures.parameters(MANY, ["learning_rate"])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["learning_rate"]


def test_an_embedded_figure_says_what_it_shows_and_stays_small():
    small = embedded(study_figures.optimization_history(MANY))
    assert small.uri.startswith("data:image/svg+xml;base64,")
    assert small.alt == f"Search history: {study_figures._summary(MANY)}"
    assert (small.width, small.height) == (768, 403)
    figure = study_figures.optimization_history([])
    figure.axes[0].scatter(*np.random.default_rng(0).random((2, 5_000)))
    large = embedded(figure)
    assert large.uri.startswith("data:image/png;base64,")
    assert len(large.uri) < 600_000


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
    assert ("too few finished trials" in words(figure)) == (not importances)


@pytest.mark.parametrize(
    "draw",
    [trial_figures.confusion_matrix, trial_figures.per_emotion_f1, trial_figures.calibration],
)
@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(evaluation(range(7), 5_000), id="many"),
        pytest.param(evaluation([3]), id="one_image"),
        pytest.param(evaluation([0, 6], 10), id="absent_emotions"),
        pytest.param(
            Evaluation(np.arange(7).repeat(4_000), np.eye(7).repeat(4_000, 0)), id="right"
        ),
    ],
)
def test_every_evaluation_can_be_drawn(draw, seen):
    figure = draw(seen, "Trial 7 on validation")
    assert png(figure)
    emotions = set() if draw is trial_figures.calibration else set(EMOTIONS)
    assert {"Trial 7 on validation"} | emotions <= words(figure)
    assert_inside(figure)


def test_calibration_is_a_line_beside_the_ideal_one_and_a_count():
    probabilities = np.full((9, 7), 0.1 / 6)
    probabilities[:, 0] = 0.9
    labels = np.array([0] * 6 + [1] * 3)
    figure = trial_figures.calibration(Evaluation(labels, probabilities), "x")
    left, right = figure.axes
    assert left.lines[1].get_xydata().tolist() == [[pytest.approx(0.9), pytest.approx(6 / 9)]]
    assert [bar.get_height() for bar in right.patches] == [0] * 13 + [9, 0]
    assert "expected calibration error 0.233  ·  9 images" in words(figure)


def test_confusion_has_counts_shares_recall_and_f1():
    predictions = np.eye(7)[[0, 0, 0, 1, 1]]
    figure = trial_figures.confusion_matrix(
        Evaluation(np.array([0, 0, 0, 0, 1]), predictions), "Test"
    )
    said = [text.get_text() for text in figure.axes[0].texts]
    assert {"3", "75%", "25%", "recall", "F1"} <= set(said)
    assert "0.75" in said  # recall of angry
    assert "0.86" in said  # its F1: 2 * 3 / (3 + 4)
    assert said.count("–") == 5  # there is no recall without images


@pytest.mark.parametrize(("n_epochs", "best"), [(0, None), (1, 1), (1, None), (40, 17)])
def test_learning_curves_of_any_length(n_epochs, best):
    figure = trial_figures.learning_curves([epoch(number + 1) for number in range(n_epochs)], best)
    assert png(figure)
    said = words(figure)
    assert "Learning curves" in said
    assert any(text.startswith(f"best epoch {best}: ") for text in said) == (best is not None)
    assert ("no epochs yet" in said) == (n_epochs == 0)


def test_one_epoch_is_drawn_as_points():
    for axes in trial_figures.learning_curves([epoch(1)], None).axes:
        assert all(line.get_marker() == "o" for line in axes.lines)


@pytest.mark.parametrize(("n_images", "n_variations"), [(1, 1), (7, 3), (3, 0)])
def test_augmentation_shows_every_variation(n_images, n_variations):
    originals = np.zeros((n_images, 48, 48), np.uint8)
    augmented = np.full((n_variations, n_images, 48, 48), 100.0)
    figure = trial_figures.augmentation(originals, augmented, np.arange(n_images))
    assert png(figure)
    ((sheet,),) = (axes.images for axes in figure.axes)
    pixels, counts = np.unique(sheet.get_array(), return_counts=True)
    shown = dict(zip(pixels, counts, strict=True))
    assert shown.get(0) == n_images * 48 * 48
    assert shown.get(100, 0) == n_variations * n_images * 48 * 48
    assert set(shown) <= {0, 100, 255}, "between them is white"
    assert {"What the network saw", "original", *EMOTIONS[:n_images]} <= words(figure)


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
    # reading "backend" would choose one
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}


def test_drawing_needs_no_pyplot():
    root = Path(study_figures.__file__).parents[2]
    script = (
        "import sys; from fer_search.figures import embedding, parallel, study, trial; "
        "embedding.embedded(study.optimization_history([])); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], cwd=root) == b"False\n"
