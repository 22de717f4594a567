"""Report a finished study on FER2013: the tables and figures of docs/results.md.

    python -m docs.results --study NAME --backend-store-uri sqlite:///mlflow.db

Run it in an installed environment, from the project's folder. The test set is not opened again: the
predictions from its one opening are an artifact of the study run. The whole PublicTest is evaluated
again, for the merged folder that Kaggle's users count.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run

from fer_search import runtime
from fer_search.config import EMOTIONS
from fer_search.data import sources
from fer_search.data.duplicates import PARTS
from fer_search.model.training import evaluate
from fer_search.results import Evaluation
from fer_search.serving.evaluation import evaluate_views
from fer_search.serving.package import load_keras
from fer_search.workflows.deliver import MODEL_TAG

FIGURES = ("test_confusion_matrix.png", "test_f1.png", "trial_curves.png",
           "optimization_history.png", "parameters.png", "parameter_importances.png")  # fmt: skip
PARAMS = ("optimizer", "learning_rate", "batch_size", "unfreeze_depth", "ema_decay", "mixup")


def main() -> None:
    """Print the tables and copy the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--backend-store-uri", required=True, help="address of MLflow's store")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--views", type=int, default=10, choices=(1, 2, 10), help="most views of "
                        "PublicTest; each takes a pass over it")  # fmt: skip
    options = parser.parse_args()
    mlflow.set_tracking_uri(options.backend_store_uri)
    client = MlflowClient()
    runtime.configure("float32")
    wanted = f"tags.`optuna.study` = '{options.study}'"
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, wanted, order_by=["attributes.start_time ASC"])
    (study_run,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = [run for run in runs if run is not study_run]
    print_trials(trials)
    print_test(client, study_run, options.views)
    copy(client, study_run, options.figures)


def print_trials(trials: list[Run]) -> None:
    """Print a row for each trial, for a pruned one with the scores of its last epoch."""
    print(f"\n| trial | ended | best epoch | val macro-F1 | val accuracy | {' | '.join(PARAMS)} |")
    print("|" + " --- |" * (len(PARAMS) + 5))
    for run in trials:
        metrics, tags = run.data.metrics, run.data.tags
        cells = [
            tags["optuna.trial_number"],
            tags["optuna.trial_state"],
            short(metrics.get("best_epoch", "")),
            short(metrics.get("val_macro_f1", metrics.get("epoch/val_macro_f1", ""))),
            short(metrics.get("val_accuracy", metrics.get("epoch/val_accuracy", ""))),
            *(short(run.data.params.get(name, "")) for name in PARAMS),
        ]
        print(f"| {' | '.join(cells)} |")


def short(value: Any) -> str:
    """Format a number with four significant digits; return anything else unchanged."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return str(value)


def print_test(client: MlflowClient, study_run: Run, most: int) -> None:
    """Print scores on PrivateTest, with and without PublicTest's images, and on both merged."""
    file = client.download_artifacts(study_run.info.run_id, "test_predictions.npz")
    with np.load(file, allow_pickle=False) as kept:
        arrays = dict(kept)
    labels = arrays["labels"]
    test = {
        int(name.removeprefix("probabilities_views")): Evaluation(labels, probabilities)
        for name, probabilities in arrays.items()
        if name.startswith("probabilities")
    }
    public_images, public_labels, shared = public(arrays["origins"])
    trial = client.get_run(study_run.data.tags["best_run"])
    model, _ = load_keras(client, trial.data.tags[MODEL_TAG])
    plain = evaluate(model, public_images, public_labels)
    of_public = {1: plain} | evaluate_views(model, public_images, plain, most)
    print("\n| images | views | accuracy | macro-F1 |\n| --- | --- | --- | --- |")
    for views, evaluation in sorted(test.items()):
        without = Evaluation(labels[~shared], evaluation.probabilities[~shared])
        print_score(f"PrivateTest, {len(labels):,}", views, evaluation)
        print_score(f"… without the {shared.sum()} that PublicTest has too", views, without)
        if views not in of_public:
            continue
        merged = Evaluation(
            np.concatenate([labels, public_labels]),
            np.concatenate([evaluation.probabilities, of_public[views].probabilities]),
        )
        print_score(f"PublicTest, whole, {len(public_labels):,}", views, of_public[views])
        print_score(f"both, as Kaggle's folder has them, {len(merged.labels):,}", views, merged)
    print(f"\n| F1 on PrivateTest | {' | '.join(EMOTIONS)} |\n|{' --- |' * (len(EMOTIONS) + 1)}")
    for views, evaluation in sorted(test.items()):
        ends = evaluation.intervals()
        cells = [
            f"{f1:.2f} ({ends[f'f1_{name}'][0]:.2f} to {ends[f'f1_{name}'][1]:.2f})"
            for name, f1 in zip(EMOTIONS, evaluation.f1, strict=True)
        ]
        print(f"| {views} view{'s' * (views > 1)} | {' | '.join(cells)} |")


def public(test_origins: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
    """Load PublicTest's images and labels, and which test images it contains too."""
    faces = sources.load("fer2013", seed=0)
    images, labels = np.asarray(faces.images), np.asarray(faces.labels)
    chosen = faces.splits == PARTS[1]
    known = {image.tobytes() for image in images[chosen]}
    place = {origin: i for i, origin in enumerate(faces.origins.tolist())}
    shared = [images[place[origin]].tobytes() in known for origin in test_origins.tolist()]
    return images[chosen], labels[chosen], np.array(shared)


def print_score(images: str, views: int, evaluation: Evaluation) -> None:
    """Print a row with accuracy and macro-F1 and their 95 % intervals."""
    ends = evaluation.intervals()
    cells = [
        f"{value:.4f} ({ends[name][0]:.3f} to {ends[name][1]:.3f})"
        for name, value in (("accuracy", evaluation.accuracy), ("macro_f1", evaluation.macro_f1))
    ]
    print(f"| {images} | {views} | {' | '.join(cells)} |")


def copy(client: MlflowClient, study_run: Run, folder: Path) -> None:
    """Copy the figures of the study run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        shutil.copy(client.download_artifacts(study_run.info.run_id, name), folder / name)
        print(f"copied {folder / name}")


if __name__ == "__main__":
    main()
