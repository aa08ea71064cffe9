"""A folder of wheels holds what the chosen platform needs, with hashes, or there is no file to install from."""

import subprocess
import zipfile

import pytest
from packaging.version import Version

from course_utils.errors import CourseError
from course_utils.files import sha256
from course_utils.maintain import wheelhouse
from course_utils.maintain.wheelhouse import make_wheelhouse, pins


def names(platform, python="3.11", cuda=False):
    return {pin.split("==")[0] for pin in pins(platform, python, cuda)}


def test_a_platform_gets_its_own_packages_whatever_this_machine_is():
    assert "colorama" in names("windows") and "colorama" not in names("linux")
    assert "appnope" in names("macos") and "appnope" not in names("windows")
    assert "torch" in names("linux") & names("macos") & names("windows")


def test_cuda_s_packages_come_only_where_they_are_asked_for():
    def cuda(found):
        return {name for name in found if name.startswith(("nvidia", "cuda", "triton"))}

    assert cuda(names("linux")) == set() and len(cuda(names("linux", cuda=True))) > 5


def test_pip_and_the_markers_mean_the_same_late_release_of_a_python(monkeypatch, tmp_path):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    wheelhouse._download(tmp_path, "linux", "3.11", ["click==1.0"], [])
    asked = Version(commands[0][commands[0].index("--python-version") + 1])
    refused = {pin for pin in pins("linux", "3.11", cuda=False) if pin.startswith("soupsieve==2")}
    assert asked > Version("3.11.5") and not refused, "some packages refuse 3.11.0, which pip takes for 3.11"


@pytest.fixture
def fetched(monkeypatch):
    """Instead of pip: an empty wheel for each pin, torch's with a local version; the options are kept."""
    options = []

    def download(folder, platform, python, wanted, more):
        options.append(more)
        for pin in wanted:
            name, version = pin.split("==")
            local = "+cpu" if more and name == "torch" else ""
            with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}{local}-py3-none-any.whl", "w"):
                pass

    monkeypatch.setattr(wheelhouse, "_download", download)
    return options


def test_every_pin_stands_in_the_file_with_the_hash_of_its_wheel_and_wheels_of_another_version_do_not(
    fetched, tmp_path
):
    (tmp_path / "click-1.0-py3-none-any.whl").touch()
    file = make_wheelhouse(tmp_path, "linux", "3.11", cuda=False, say=print, index="an-index")
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(pins("linux", "3.11", cuda=False)) and "click==1.0" not in " ".join(lines)
    torch = next(line for line in lines if line.startswith("torch=="))
    wheel = next(tmp_path.glob("torch-*.whl"))
    assert "+cpu --hash=sha256:" in torch and torch.endswith(sha256(wheel))
    assert fetched == [[], ["--index-url", "an-index"]]
    assert "--require-hashes" in (tmp_path / "README.txt").read_text(encoding="utf-8")


def test_a_wheel_that_is_missing_leaves_no_file_to_install_from(fetched, tmp_path, monkeypatch):
    make_wheelhouse(tmp_path, "macos", "3.12", cuda=False, say=print)
    monkeypatch.setattr(wheelhouse, "_download", lambda *words: None)
    next(tmp_path.glob("click-*.whl")).unlink()
    with pytest.raises(CourseError, match="click"):
        make_wheelhouse(tmp_path, "macos", "3.12", cuda=False, say=print)
    assert not (tmp_path / "requirements.txt").exists()


def test_wheels_of_two_platforms_do_not_go_into_one_folder(fetched, tmp_path):
    make_wheelhouse(tmp_path, "macos", "3.12", cuda=False, say=print)
    for platform, python, cuda in (("windows", "3.12", False), ("macos", "3.11", False), ("macos", "3.12", True)):
        with pytest.raises(CourseError, match="another folder"):
            make_wheelhouse(tmp_path, platform, python, cuda, say=print)
