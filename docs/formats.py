"""Measure a stored model in all formats: size, and time for a single face and for a batch.

    python -m docs.formats --model models:/fer-emotion@champion

Run it in an installed environment, from the project's folder, with MLFLOW_TRACKING_URI set.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from fer_search import runtime
from fer_search.data.images import scaled
from fer_search.data.synthetic import draw
from fer_search.serving import formats
from fer_search.serving.evaluation import milliseconds_in_turn
from fer_search.serving.package import load_predictor

BATCH = 64


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models:/fer-emotion@champion")
    options = parser.parse_args()
    runtime.configure("float32")
    predictor, _ = load_predictor(options.model)
    faces = scaled(draw(BATCH, seed=0)[0], predictor.size)[..., None]
    with tempfile.TemporaryDirectory() as folder:
        files = {"Keras": Path(folder, "model.keras")}
        predictor.model.save(files["Keras"])
        runs = {"Keras": predictor.model.predict_on_batch}
        for kind, opened in formats.RUNNERS.items():
            files[kind] = Path(folder, f"model.{kind}")
            formats.export(predictor.model, kind, files[kind])
            runs[kind] = opened(files[kind])
        one = milliseconds_in_turn(list(runs.values()), [faces[:1]] * len(runs))
        many = milliseconds_in_turn(list(runs.values()), [faces] * len(runs), turns=9)
        print("| format | MB | ms for one face | ms per face, 64 at once |")
        print("| --- | --- | --- | --- |")
        for name, alone, together in zip(runs, one, many, strict=True):
            size = files[name].stat().st_size / 1e6
            print(f"| {name} | {size:.1f} | {alone:.1f} | {together / BATCH:.1f} |")


if __name__ == "__main__":
    main()
