"""Run one search: python -m benchmarks.searches NAME SEED SECONDS FOLDER SPACE."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from benchmarks.searches import Task, TimeUp
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare

name, seed, seconds, folder, space = sys.argv[1:]
search = SearchConfig(**json.loads(space) | {"seed": int(seed), "study": name})
runtime.configure()
task = Task(search, prepare(search), int(seed), float(seconds), Path(folder))
with contextlib.suppress(TimeUp):
    if name in ("hyperband", "bayesian"):
        from benchmarks.searches.keras_tuners import tune
    elif name == "ray_asha":
        from benchmarks.searches.ray_asha import tune
    else:
        from benchmarks.searches.studies import tune
    tune(task, name)
