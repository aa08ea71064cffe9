"""pyproject.toml, requirements.lock, environment.yml, the imports and this environment agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_utils.paths import ROOT, SOURCES

PIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*( ; \S.*)?")
LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"]]


def name_of(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


PINS = [Requirement(line) for line in LINES]
PINS_HERE = {name_of(pin): pin for pin in PINS if applies(pin)}


def needed_here() -> dict[str, str]:
    """Every package that the direct dependencies bring on this machine, each with one that asks for it."""
    found, queue = {}, [(requirement, "pyproject.toml") for requirement in DIRECT]
    seen = set()
    while queue:
        requirement, asker = queue.pop()
        name = name_of(requirement)
        found.setdefault(name, asker)
        for extra in ["", *requirement.extras]:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in distribution(name).requires or []:
                asked = Requirement(text)
                if applies(asked, extra):
                    queue.append((asked, name))
    return found


def imported_modules(path: Path) -> set[str]:
    """Top-level names of all that a Python file imports, inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_lock_is_one_pin_without_address(line):
    assert PIN.fullmatch(line)


def test_the_lock_is_sorted_and_pins_each_package_once_per_platform():
    names = [name_of(pin) for pin in PINS]
    assert names == sorted(names)
    unmarked = {name_of(pin) for pin in PINS if pin.marker is None}
    assert [name for name in names if names.count(name) > 1 and name in unmarked] == []
    assert len(PINS_HERE) == sum(applies(pin) for pin in PINS)


def test_packages_for_one_platform_carry_a_marker():
    for pin in PINS:
        if re.match(r"nvidia-|cuda-|triton$|pywin|appnope$|colorama$", pin.name):
            assert pin.marker and re.search("sys_platform|platform_system|os_name", str(pin.marker)), pin.name


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_a_direct_dependency_is_open_ended_and_pinned_by_the_lock(requirement):
    assert {specifier.operator for specifier in requirement.specifier} <= {">="}
    pin = PINS_HERE[name_of(requirement)]
    assert requirement.specifier.contains(str(pin.specifier).removeprefix("=="))


def test_everything_that_the_dependencies_bring_is_pinned():
    assert {name: asker for name, asker in needed_here().items() if name not in PINS_HERE} == {}


def test_this_environment_has_the_pinned_versions():
    wrong = {}
    for name, pin in PINS_HERE.items():
        try:
            if not pin.specifier.contains(Version(version(name)), prereleases=True):
                wrong[name] = f"{version(name)} instead of {pin.specifier}"
        except PackageNotFoundError:
            # The CPU build of torch asks for no CUDA packages; then nobody misses them.
            if name in needed_here() or Version(version("torch")).local is None:
                wrong[name] = f"missing instead of {pin.specifier}"
    assert wrong == {}


def test_every_import_is_a_direct_dependency():
    files = [*(ROOT / "course_utils").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *SOURCES.glob("*.py")]
    own = {"course_utils", *(path.stem for path in files if path.is_relative_to(ROOT / "tests"))}
    direct = {name_of(requirement) for requirement in DIRECT}
    distributions = packages_distributions()
    undeclared = {}
    for path in files:
        for module in imported_modules(path) - own - sys.stdlib_module_names:
            providers = {canonicalize_name(name) for name in distributions.get(module, [])}
            if not providers & direct:
                undeclared.setdefault(module, []).append(str(path.relative_to(ROOT)))
    assert undeclared == {}


def test_conda_takes_the_same_python_and_the_same_lock():
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()]
    assert {"- python=3.11", "- pip", "- -r requirements.lock", "- -e ."} <= set(lines)
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_console_script_is_the_module_s_main():
    assert PROJECT["scripts"] == {"course": "course_utils.runner.cli:main"}
