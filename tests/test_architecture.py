"""Which module may import which: one home per framework; values go down, results come up."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fer_search"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    {"__main__"},
    {"cli"},
    {"workflows"},
    {"reporting"},
    {"study", "tracking", "serving", "figures", "spool", "progress", "terminal_tables"},
    {"model"},
    {"data", "runtime", "gate", "retention"},
    {"comparison", "cost"},
    {"results", "trials"},
    {"trial_config", "command_config", "preconditions"},
    {"config", "invocation", "stops", "compilation"},
    {"processes"},
    {"settings"},
    {"errors"},
]
HOMES = {
    "keras": {"model", "serving", "runtime", "study.hypermodel"},
    "tensorflow": {
        "runtime",
        "model.batch_norm",
        "model.convolutions",
        "model.feed",
        "model.fused_steps",
    },
    "jax": {"compilation", "model.device_loop"},
    "optuna": {"study"},
    "keras_tuner": {"study"},
    "mlflow": {"tracking", "serving"},
    "matplotlib": {"figures"},
    "rich": {"progress", "terminal_tables", "data"},
    "click": {"cli"},
    "kagglehub": {"data"},
    "PIL": {"data", "serving"},
    "scipy": {"comparison"},
    "jinja2": {"reporting"},
    "ray": {"workflows.ray_worker"},
}


def home(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            if node.module == "fer_search":
                yield from (f"fer_search.{alias.name}" for alias in node.names)


def level(name):
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_and_frameworks_stay_at_home(path):
    here = home(path)
    if here == "__init__":
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "fer_search" and rest:
            is_same = rest[0] == here
            assert is_same or level(rest[0]) > level(here), f"{path.name} imports {name}"
        elif top in HOMES:
            assert HOMES[top] & {here, f"{here}.{path.stem}"}, f"{path.name} imports {name}"


def test_packages_are_empty_so_that_importing_one_module_loads_no_other():
    assert not [path for path in PACKAGE.rglob("__init__.py") if path.read_text().strip()]


def test_nothing_is_pickled():
    for path in MODULES:
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"pickle", "cloudpickle", "joblib", "dill"}, path


def test_every_module_says_its_place():
    for path in MODULES:
        if path.name != "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path
