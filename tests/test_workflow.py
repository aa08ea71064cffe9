"""What the workflows run exists."""

import re

import pytest
import yaml

from course_utils.paths import ROOT
from course_utils.runner.cli import main

JOBS = {
    f"{path.stem}/{name}": job
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
}


def commands(job):
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_every_night_one_job_takes_the_pins_and_one_the_newest_packages():
    assert any(command.startswith("make test") for command in commands("nightly/locked"))
    assert "pip install -e ." in commands("nightly/latest")
    assert "continue-on-error" in JOBS["nightly/latest"] and "continue-on-error" not in JOBS["nightly/locked"]


def test_every_push_is_tested_on_three_systems_and_on_every_python_that_the_project_takes():
    matrix = JOBS["checks/fast"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["system"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| tested on every push | Python {' | '.join(matrix['python'])} |" in readme
    assert all(f"\n| {name} | fast tests" in readme for name in ("Linux", "macOS", "Windows"))


@pytest.mark.parametrize("job", [job for job in JOBS if job.startswith("nightly")])
def test_every_night_runs_the_lessons_and_the_tests_and_keeps_what_they_leave(job):
    said = "\n".join(commands(job))
    assert "--solutions" in said and "--junitxml=build/junit.xml" in said
    kept = JOBS[job]["steps"][-1]
    assert kept["if"] == "always()" and "build" in kept["with"]["path"].split()


OURS = {command for job in JOBS for command in commands(job) if re.match("make|course", command) or "::" in command}


@pytest.mark.parametrize("command", sorted(OURS))
def test_targets_commands_and_options_exist(command):
    words = command.split()
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if words[0] == "course" or words[:2] == ["make", "course"]:
        known = {name for option in main.commands["run"].params for name in (*option.opts, *option.secondary_opts)}
        assert {option for option in re.findall(r"--[\w-]+", command)} <= known
    for file, test in re.findall(r"--deselect (\S+)::(\S+)", command):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
