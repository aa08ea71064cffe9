"""The example of a nightly workflow names commands that exist."""

import re

import pytest
import yaml

from course_utils.paths import ROOT
from course_utils.runner.cli import main

JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8"))["jobs"]


def commands(job):
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_one_job_takes_the_pins_and_one_the_newest_packages():
    assert any(command.startswith("make test") for command in commands("locked"))
    assert "pip install -e ." in commands("latest") and not any("requirements.lock" in c for c in commands("latest"))
    assert JOBS["latest"]["continue-on-error"] is True and "continue-on-error" not in JOBS["locked"]


@pytest.mark.parametrize("job", JOBS)
def test_every_job_runs_the_lessons_and_the_tests_and_keeps_what_they_leave(job):
    said = "\n".join(commands(job))
    assert "--solutions" in said and "--junitxml=build/junit.xml" in said
    kept = JOBS[job]["steps"][-1]
    assert kept["if"] == "always()" and "build" in kept["with"]["path"].split()


@pytest.mark.parametrize("command", [command for job in JOBS for command in commands(job)])
def test_targets_commands_and_options_exist(command):
    words = command.split()
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if words[0] == "course" or words[:2] == ["make", "course"]:
        known = {name for option in main.commands["run"].params for name in (*option.opts, *option.secondary_opts)}
        assert {option for option in re.findall(r"--[\w-]+", command)} <= known
    for file, test in re.findall(r"--deselect (\S+)::(\S+)", command):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
