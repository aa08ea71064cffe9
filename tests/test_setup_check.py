"""`course check` tells what is wrong with a machine and which command fixes it; it neither raises nor hangs."""

import io
import json
import shutil
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

import huggingface_hub
import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from course_utils import lock, machine, paths
from course_utils.profiles import PROFILES
from course_utils.runner import setup_check
from course_utils.runner.cli import main
from course_utils.runner.setup_check import FAIL, OK, WARN, Finding, Setup, check_setup, fitting_profiles

FULL = PROFILES["full"]


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """No hub answers here, its cache is empty, and each time that it is asked is counted."""
    asked = []

    def urlopen(request, timeout):
        asked.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(setup_check, "urlopen", urlopen)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return asked


def finding(name, profile="tiny"):
    check = getattr(setup_check, f"_{name}")
    return setup_check._guarded(check, PROFILES[profile])


@pytest.mark.parametrize("profile", PROFILES)
def test_every_line_has_a_status_and_every_fault_a_command(profile):
    for found in check_setup(profile).findings:
        assert found.status in (OK, WARN, FAIL) and found.text
        assert found.status == OK or found.fix
        assert str(paths.ROOT) not in found.fix


def test_the_hub_is_asked_once_with_a_time_limit_and_only_by_profiles_that_need_it(asked, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    check_setup("tiny")
    assert asked == []
    check_setup("full")
    assert asked == [setup_check.HUB_SECONDS]
    assert finding("hub", "full").status == WARN
    monkeypatch.setattr(setup_check, "urlopen", lambda request, timeout: io.BytesIO())
    assert finding("hub", "full").status == OK
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in finding("hub", "full").fix


def test_packages_are_held_against_the_lock(monkeypatch):
    def installed(missing=(), other=(), torch=""):
        def found(name):
            if name.startswith(missing):
                raise PackageNotFoundError(name)
            if name == "torch":
                return version(name).split("+")[0] + torch
            return "0.0.1" if name in other else version(name)

        monkeypatch.setattr(lock, "version", found)
        return finding("packages")

    assert installed(missing=lock.CUDA, torch="+cpu").status == OK
    assert installed(missing=lock.CUDA, other=("six",), torch="+cpu").status == WARN
    found = installed(missing=("tqdm",), other=("six",))
    assert found.status == FAIL and "tqdm is missing" in found.text and "six 0.0.1" in found.text
    assert "requirements.lock" in found.fix


def test_a_full_disk_fails_and_names_what_makes_room(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(2e8))
    assert finding("disk").status == FAIL and "course clean" in finding("disk").fix
    assert finding("download", "full").status == FAIL and "HF_HOME" in finding("download", "full").fix


def test_memory_is_held_against_what_the_lessons_first_cells_say(monkeypatch):
    monkeypatch.setattr(setup_check, "_lesson_memory", lambda profile: {"01": 2.0, "02": 2.0, "06": 8.0})
    monkeypatch.setattr(machine, "free_gb", lambda: 64.0)
    for total, status in ((8.0, OK), (6.0, WARN), (1.0, FAIL)):
        monkeypatch.setattr(machine, "memory_gb", lambda total=total: total)
        assert finding("memory").status == status
        assert ("06" in finding("memory").fix) == (status != OK)


def test_a_damaged_list_of_checkpoints_is_restored_with_git(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MODELS", tmp_path)
    (tmp_path / "SHA256.json").write_text("{", encoding="utf-8")
    assert (finding("checkpoints").status, finding("checkpoints").fix) == (FAIL, "git checkout data/models")


def test_a_gpu_profile_without_its_gpu_fails_and_tiny_needs_none(monkeypatch):
    monkeypatch.setattr(setup_check, "gpu", lambda: ("", 0.0))
    assert (finding("profile").status, finding("profile", "t4").status) == (OK, FAIL)
    monkeypatch.setattr(setup_check, "gpu", lambda: ("T4", 15.8))
    assert (finding("profile", "t4").status, finding("profile", "full").status) == (OK, WARN)
    assert finding("profile", "full").fix == "course run --profile t4"


@pytest.mark.parametrize(("memory", "last"), [(0.0, "tiny"), (8.0, "tiny"), (15.8, "t4"), (48.0, "t4"), (85.0, "full")])
def test_the_last_profile_that_fits_is_the_largest_whose_gpu_is_here(memory, last):
    assert fitting_profiles(memory)[-1] == last


def test_an_altered_checkpoint_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "MODELS", shutil.copytree(paths.MODELS, tmp_path / "models"))
    (tmp_path / "models" / "tiny-qwen3-vl" / "config.json").write_text("{}", encoding="utf-8")
    found = finding("checkpoints")
    assert found.status == FAIL and "tiny-qwen3-vl" in found.text and found.fix == "git checkout data/models"


def test_a_check_that_breaks_is_a_finding_itself(monkeypatch):
    def broken():
        raise ImportError("libcudart is missing")

    monkeypatch.setattr(machine, "memory_gb", broken)
    found = finding("memory")
    assert found.status == FAIL and "libcudart" in found.text and "requirements.lock" in found.fix


def test_the_command_prints_every_line_and_exits_with_1_on_a_fault(monkeypatch):
    setup = Setup([Finding(OK, "packages", "as pinned")], ["tiny"])
    monkeypatch.setattr(setup_check, "check_setup", lambda profile: setup)
    assert CliRunner().invoke(main, ["check"]).exit_code == 0
    setup.findings.append(Finding(FAIL, "disk", "full", "course clean"))
    ran = CliRunner().invoke(main, ["check"])
    assert ran.exit_code == 1 and "-> course clean" in ran.output and "FAIL (1)" in ran.output
    assert CliRunner().invoke(main, ["check", "--profile", "huge"]).exit_code == 2


def test_what_is_to_fetch_is_named_and_what_is_in_the_cache_is_not(tmp_path, monkeypatch):
    published = {FULL.embedder, FULL.raw_vlm, FULL.reranker, FULL.text_tower, FULL.image_tower, FULL.dataset}
    text = finding("download", "t4").text
    assert published == setup_check.DOWNLOADS.keys() and all(name in text for name in published)
    here = [SimpleNamespace(repo_id=FULL.embedder, size_on_disk=4.25e9)]  # nearly all of it is all that is used
    here += [SimpleNamespace(repo_id=FULL.dataset, size_on_disk=3e9)]
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda folder: SimpleNamespace(repos=here))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    text = finding("download", "full").text
    assert FULL.embedder not in text and FULL.dataset in text


def test_the_check_is_one_line_of_json_to_collect_from_many_machines(monkeypatch):
    monkeypatch.setattr(
        setup_check, "check_setup", lambda profile: Setup([Finding(FAIL, "disk", "full", "clean")], ["t4"])
    )
    ran = CliRunner().invoke(main, ["check", "--json"])
    found = json.loads(ran.output)
    assert ran.exit_code == 1 and ran.output.count("\n") == 1 and found["host"]
    assert found["ready"] is False and found["faults"][0]["fix"] == "clean" and found["fits"] == ["t4"]
