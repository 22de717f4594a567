import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from fer_search.cli import commands

ROOT = Path(__file__).parents[1]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
ENTRIES = PROJECT["entry_points"]


def command_of(entry):
    return commands.commands["search" if entry == "main" else entry]


def test_every_command_is_an_entry_point():
    assert {"search" if name == "main" else name for name in ENTRIES} == set(commands.commands)


@pytest.mark.parametrize("entry", ENTRIES)
def test_parameters_are_options_of_the_same_name_and_default(entry):
    options = {option.name: option for option in command_of(entry).params}
    for name, parameter in ENTRIES[entry]["parameters"].items():
        default = parameter.get("default")
        assert options[name].default == (None if default is None else str(default)), name
        assert options[name].required == (default is None), name


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_parameter_is_passed_on_under_its_name(entry):
    passed = re.findall(r"--(\w+) \{(\w+)\}", ENTRIES[entry]["command"])
    assert dict(passed) == {name: name for name in ENTRIES[entry]["parameters"]}
    called = "search" if entry == "main" else entry
    assert ENTRIES[entry]["command"].startswith(f"python -m fer_search {called} ")


def test_main_offers_every_setting_of_a_search():
    assert list(ENTRIES["main"]["parameters"]) == [o.name for o in command_of("main").params]


@pytest.mark.parametrize("name", commands.commands)
def test_hyphens_are_accepted_too(name):
    for option in commands.commands[name].params:
        assert f"--{option.name}" in option.opts
        assert f"--{option.name.replace('_', '-')}" in option.opts


def test_the_environment_says_python_as_mlflow_reads_it_and_uses_the_gpu_requirements():
    environment = yaml.safe_load((ROOT / PROJECT["conda_env"]).read_text())
    python, pip, packages = environment["dependencies"]
    assert python == "python=3.11"
    assert (pip, packages) == ("pip", {"pip": ["-r requirements-gpu.txt"]})
    assert "-r requirements.txt" in (ROOT / "requirements-gpu.txt").read_text()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fer_search", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_a_refusal_is_one_message_without_a_traceback_and_status_2():
    done = run("search", "--trials", "many", "--sampler", "dice")
    assert done.returncode == 2
    assert "trials=many" in done.stderr
    assert "known: auto, mutation, tpe, random" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_option_lists_the_known_ones():
    done = run("search", "--trails", "3")
    assert done.returncode == 2
    assert "Hint: known options: trials, timeout, study" in done.stderr


def test_help_says_what_every_setting_means():
    for command in commands.commands.values():
        for option in command.params:
            assert isinstance(option, click.Option)
            assert option.help, option.name
