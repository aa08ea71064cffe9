"""`course check` tells what is wrong with a machine and which command mends it; it neither raises nor hangs."""

import shutil
import sys
import time
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version

import pytest
from click.testing import CliRunner

from course_utils import finetuned, paths
from course_utils.errors import CourseError
from course_utils.runner import setup_check
from course_utils.runner.cli import main
from course_utils.runner.setup_check import FAIL, OK, WARN, Finding, check_setup, recommended_profile, summary


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Nobody waits for a network here; the one test about the network asks for the real thing."""
    monkeypatch.setattr(setup_check, "hub_answers", lambda seconds=0: False)


def finding(name, profile="tiny"):
    return next(found for found in check_setup(profile) if found.name == name)


def test_every_line_has_a_status_and_every_fault_a_command():
    findings = check_setup()
    assert [found.name for found in findings] == [
        "Python",
        "packages",
        "disk",
        "memory",
        "cores",
        "device",
        "checkpoints",
        "results",
        "pages",
        "hub",
        "profile",
    ]
    for found in findings:
        assert found.status in (OK, WARN, FAIL) and found.text
        assert found.status == OK or found.mend
        assert str(paths.ROOT) not in found.mend


def test_a_finding_prints_its_mend_below():
    assert str(Finding(WARN, "cores", "1 core", "buy one")).splitlines() == [
        "WARN  cores        1 core",
        "                   → buy one",
    ]


def test_packages_are_held_against_the_lock(monkeypatch):
    assert finding("packages").status == OK

    def other(name):
        if name == "tqdm":
            raise PackageNotFoundError(name)
        return "0.0.1" if name == "six" else version(name)

    monkeypatch.setattr(setup_check, "version", other)
    found = finding("packages")
    assert found.status == FAIL and "tqdm is missing" in found.text and "six 0.0.1 instead of" in found.text
    assert "requirements.lock" in found.mend


def test_another_version_is_a_warning_and_missing_cuda_packages_of_a_cpu_torch_are_nothing(monkeypatch):
    def without_cuda(name):
        if name.startswith(("nvidia-", "cuda-", "triton")):
            raise PackageNotFoundError(name)
        return version("torch").split("+")[0] + "+cpu" if name == "torch" else version(name)

    monkeypatch.setattr(setup_check, "version", without_cuda)
    assert finding("packages").status == OK
    monkeypatch.setattr(setup_check, "version", lambda name: "0.0.1" if name == "six" else without_cuda(name))
    found = finding("packages")
    assert found.status == WARN and "-c requirements.lock" in found.mend


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert finding("Python").status == FAIL


def test_a_full_disk_fails_and_names_the_command_that_makes_room(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(2e8))
    found = finding("disk")
    assert (found.status, found.mend) == (FAIL, "course clean")


def test_little_memory_warns_and_too_little_fails(monkeypatch):
    monkeypatch.setattr(setup_check, "memory_gb", lambda: 6.0)
    assert finding("memory").status == WARN
    monkeypatch.setattr(setup_check, "memory_gb", lambda: 2.0)
    assert finding("memory").status == FAIL


def test_a_gpu_profile_without_its_gpu_fails_and_tiny_needs_none(monkeypatch):
    monkeypatch.setattr(setup_check, "gpu", lambda: ("", 0.0))
    assert finding("device").status == OK
    assert finding("device", "t4").status == FAIL
    monkeypatch.setattr(setup_check, "gpu", lambda: ("T4", 15.8))
    assert finding("device", "t4").status == OK
    assert (finding("device", "full").status, finding("device", "full").mend) == (WARN, "course run --profile t4")


@pytest.mark.parametrize("memory, name", [(0.0, "tiny"), (8.0, "tiny"), (15.8, "t4"), (48.0, "t4"), (85.0, "full")])
def test_the_recommended_profile_is_the_largest_whose_gpu_is_here(memory, name):
    assert recommended_profile(memory) == name


def test_an_altered_checkpoint_fails(tmp_path, monkeypatch):
    shutil.copytree(paths.MODELS, tmp_path / "models")
    monkeypatch.setattr(paths, "MODELS", tmp_path / "models")
    assert finding("checkpoints").status == OK
    (tmp_path / "models" / "tiny-qwen3-vl" / "config.json").write_text("{}")
    found = finding("checkpoints")
    assert found.status == FAIL and "tiny-qwen3-vl " in found.text and found.mend == "git checkout data/models"


def test_missing_results_fail_with_the_command_that_brings_them_back(monkeypatch):
    def missing(profile):
        raise CourseError("nothing there")

    monkeypatch.setattr(finetuned, "finetuned", missing)
    assert (finding("results").status, finding("results").mend) == (FAIL, "git checkout data/precomputed")


def test_no_network_matters_only_where_the_profile_needs_one(monkeypatch):
    from huggingface_hub import constants

    for offline in (True, False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert finding("hub").status == OK
        assert finding("hub", "full").status == WARN
        assert ("HF_HUB_OFFLINE" in finding("hub", "full").mend) == offline


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.undo()  # the real hub_answers
    monkeypatch.setattr(setup_check, "_ask", lambda *arguments: time.sleep(5))
    began = time.monotonic()
    assert not setup_check.hub_answers(0.05)
    assert time.monotonic() - began < 4
    monkeypatch.setattr(setup_check, "_ask", lambda address, seconds, answers: answers.set())
    assert setup_check.hub_answers(5)


def test_a_check_that_breaks_is_a_finding_itself(monkeypatch):
    def broken():
        raise ImportError("libcudart is missing")

    monkeypatch.setattr(setup_check, "cores", broken)
    found = finding("cores")
    assert found.status == FAIL and "libcudart" in found.text and "requirements.lock" in found.mend


def test_the_command_prints_every_line_and_exits_with_1_on_a_fault(monkeypatch):
    lines = [Finding(OK, "Python", "3.11.7")]
    monkeypatch.setattr(setup_check, "check_setup", lambda profile: lines)
    assert CliRunner().invoke(main, ["check"]).exit_code == 0
    lines.append(Finding(FAIL, "disk", "full", "course clean"))
    ran = CliRunner().invoke(main, ["check"])
    assert ran.exit_code == 1 and "→ course clean" in ran.output and summary(lines) in ran.output
    assert CliRunner().invoke(main, ["check", "--profile", "huge"]).exit_code == 2
