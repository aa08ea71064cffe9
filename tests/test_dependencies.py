"""pyproject.toml, requirements.lock, environment.yml, the imports and this environment agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_utils.paths import ROOT, SOURCES

PIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*( ; \S.*)?")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES]


def name_of(requirement):
    return canonicalize_name(requirement.name)


def applies(requirement, extra=""):
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


DIRECT = {name_of(requirement): requirement for requirement in map(Requirement, PROJECT["dependencies"])}
PINS_HERE = {name_of(pin): pin.specifier for pin in PINS if applies(pin)}


def needed_here():
    """Every package that the direct dependencies bring on this machine."""
    seen, queue = set(), list(DIRECT.values())
    while queue:
        requirement = queue.pop()
        name = name_of(requirement)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            asked = map(Requirement, distribution(name).requires or [])
            queue += [requirement for requirement in asked if applies(requirement, extra)]
    return {name for name, _ in seen}


def imported_modules(path):
    """Top-level names of all that a Python file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_the_lock_has_pins_only_sorted_one_per_package_and_platform():
    assert [line for line in LINES if not PIN.fullmatch(line)] == []
    names = [name_of(pin) for pin in PINS]
    assert names == sorted(names)
    assert len(PINS_HERE) == sum(applies(pin) for pin in PINS)


def test_the_lock_of_the_book_has_what_its_group_asks_for_and_agrees_with_the_course_s():
    text = (ROOT / "docs" / "requirements.lock").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if not PIN.fullmatch(line)] == []
    book = {name_of(pin): pin.specifier for pin in map(Requirement, text.splitlines()) if applies(pin)}
    assert {"myst-nb", "sphinx", "sphinx-book-theme"} <= book.keys() - PINS_HERE.keys()
    assert {name for name in book.keys() & PINS_HERE.keys() if book[name] != PINS_HERE[name]} == set()


def test_packages_for_one_platform_carry_a_marker():
    for pin in PINS:
        if re.match(r"nvidia-|cuda-|triton$|pywin|appnope$|colorama$", pin.name):
            assert pin.marker and re.search("sys_platform|platform_system|os_name", str(pin.marker)), pin.name


def test_direct_dependencies_are_open_ended_and_pinned_by_the_lock():
    for name, requirement in DIRECT.items():
        assert {specifier.operator for specifier in requirement.specifier} <= {">="}, name
        assert requirement.specifier.contains(str(PINS_HERE[name]).removeprefix("==")), name


def test_the_lock_pins_all_that_this_machine_needs():
    assert needed_here() - PINS_HERE.keys() == set()


def test_this_environment_has_the_pinned_versions():
    wrong = {}
    for name, pin in PINS_HERE.items():
        try:
            if not pin.contains(Version(version(name)), prereleases=True):
                wrong[name] = f"{version(name)} instead of {pin}"
        except PackageNotFoundError:
            # The CPU build of torch asks for no CUDA packages; then nobody misses them.
            if name in needed_here() or Version(version("torch")).local is None:
                wrong[name] = f"missing instead of {pin}"
    assert wrong == {}


def test_every_import_is_a_direct_dependency():
    files = [*(ROOT / "course_utils").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *SOURCES.glob("*.py")]
    own = {"course_utils", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    distributions = packages_distributions()
    undeclared = {}
    for path in files:
        for module in set(imported_modules(path)) - own - sys.stdlib_module_names:
            if not {canonicalize_name(name) for name in distributions.get(module, [])} & DIRECT.keys():
                undeclared.setdefault(module, []).append(str(path.relative_to(ROOT)))
    assert undeclared == {}


def test_conda_takes_the_same_python_and_the_same_lock():
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()]
    assert {"- python=3.11", "- pip", "- -r requirements.lock", "- -e ."} <= set(lines)
    assert PROJECT["requires-python"] == ">=3.11"
