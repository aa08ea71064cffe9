"""Every lesson has the form that learners and teachers count on."""

import ast
import re

import pytest

from course_utils.runner.notebooks import build, find_sources

CODE_LINES, LINE_LENGTH, NAMES = 25, 110, 25


@pytest.fixture
def cells(lesson):
    """The cells of the solution notebook, which the learner's has too."""
    return build(lesson)[1].cells


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def parse(cell):
    """The cell's syntax tree, without IPython's own lines."""
    return ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", cell.source))


def bullets(text):
    return len(re.findall(r"^[-*] \S", text, flags=re.MULTILINE))


def ours(statement):
    """The names that a statement imports from course_utils, each with its module."""
    if isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == "course_utils":
        return {f"{statement.module}.{alias.name}" for alias in statement.names}
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names if alias.name.split(".")[0] == "course_utils"}
    return set()


def test_the_first_cell_says_what_it_gives_and_what_it_takes(lesson, cells):
    header = cells[0].source
    assert re.match(rf"# {lesson.stem[:2]} · \S", header)
    parts = re.split(r"^\*\*(You will be able to|Time|Learning time|Memory|Read first)\*\*", header, flags=re.MULTILINE)
    assert parts[1::2] == ["You will be able to", "Time", "Learning time", "Memory", "Read first"]
    goals, time, learning, memory = parts[2:9:2]
    assert 3 <= bullets(goals) <= 5
    assert re.fullmatch(r" about (3\d|4[0-5]) min\s+", learning)
    for profile in ("tiny", "t4", "full"):
        assert re.search(rf"\b{profile} (about )?[\d.]+ (min|h)\b", time), f"no time for {profile}"
        assert re.search(rf"\b{profile} [\d.]+ GB\b", memory), f"no memory for {profile}"


def test_the_second_cell_alone_has_parameters_and_they_are_plain_values(cells):
    tagged = [number for number, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [1]
    values = {ast.unparse(line.targets[0]): ast.literal_eval(line.value) for line in parse(cells[1]).body}
    assert values["PROFILE"] == "tiny" and isinstance(values["SEED"], int)


def test_the_third_cell_imports_the_libraries_and_then_in_one_block_the_course(cells):
    """The line that makes libraries quiet may come first: it has to, to do so."""
    lines = parse(cells[2]).body
    imports = [line for line in lines if isinstance(line, (ast.Import, ast.ImportFrom))]
    if isinstance(imports[0], ast.ImportFrom) and imports[0].module == "course_utils.machine":
        imports = imports[1:]
    kinds = [bool(ours(line)) for line in imports]
    assert kinds == sorted(kinds) and kinds[-1], "libraries first, then course_utils"
    block = imports[kinds.index(True) :]
    start = lines.index(block[0])
    assert lines[start : start + len(block)] == block, "the imports from course_utils stand together"


def test_no_other_cell_imports_from_the_course(cells):
    for cell in code(cells)[2:]:
        assert not any(ours(line) for line in parse(cell).body), cell.source


def test_lessons_import_few_names_from_the_course():
    sources = [ast.walk(parse(cell)) for source in find_sources() for cell in code(build(source)[1].cells)]
    names = set().union(*(ours(line) for source in sources for line in source))
    assert len(names) <= NAMES, sorted(names)


def test_the_last_cell_mirrors_the_first_and_names_the_next_lesson(cells):
    recap = cells[-1].source
    assert recap.startswith("## You have") and "next" in recap.lower()
    assert bullets(recap) == bullets(cells[0].source.split("**Time**")[0]), "one bullet for each of the first cell's"


def test_a_lesson_fits_a_workshop_slot(cells):
    assert 25 <= len(cells) <= 42
    assert 800 <= sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown") <= 1800


def test_formulas_are_plain_text_which_reads_without_a_network(cells):
    assert [cell.source for cell in cells if cell.cell_type == "markdown" and "$" in cell.source] == []


def test_no_cell_is_a_wall_of_code(cells):
    for cell in code(cells):
        lines = [line for line in cell.source.splitlines() if not re.fullmatch(r"\s*# </?solution>.*", line)]
        assert len(lines) <= CODE_LINES, cell.source
        assert max(map(len, lines)) <= LINE_LENGTH, cell.source


def test_every_exercise_has_one_cell_with_a_stub_and_a_check(cells):
    starts = [k for k, cell in enumerate(cells) if cell.source.startswith("### Exercise")]
    assert 2 <= len(starts) <= 3
    solved = [k for k, cell in enumerate(cells) if cell.cell_type == "code" and "# <solution>" in cell.source]
    assert solved == [next(k for k in range(start, len(cells)) if cells[k].cell_type == "code") for start in starts]
    for k in solved:
        calls = {ast.unparse(node.func) for node in ast.walk(parse(cells[k])) if isinstance(node, ast.Call)}
        assert any("check" in name for name in calls), cells[k].source


def test_stubs_are_python_that_runs_up_to_the_learner(lesson):
    learner, solution = build(lesson)
    for blank, solved in zip(code(learner.cells), code(solution.cells), strict=True):
        parse(blank)
        assert (blank.source != solved.source) == ("# <solution>" in solved.source)
