"""Every lesson has the form that learners and teachers count on."""

import ast
import re

import pytest

from course_utils.runner.notebooks import build

MAX_CODE_LINES = 40


@pytest.fixture
def cells(lesson):
    """The cells of the solution notebook, which the learner's has too."""
    return build(lesson)[1].cells


def bullets(text):
    return re.findall(r"^[-*] \S", text, flags=re.MULTILINE)


def parse(cell):
    """The cell's syntax tree, without IPython's own lines."""
    return ast.parse("\n".join(line for line in cell.source.splitlines() if not re.match(r"\s*[%!]", line)))


def calls_a_check(cell):
    called = (node.func for node in ast.walk(parse(cell)) if isinstance(node, ast.Call))
    return any("check" in ast.unparse(function) for function in called)


def test_the_first_cell_says_what_it_gives_and_what_it_takes(lesson, cells):
    header = cells[0]
    lines = header.source.splitlines()
    assert header.cell_type == "markdown"
    assert re.fullmatch(rf"# {lesson.stem[:2]} · \S.*", lines[0])
    starts = ["**You will be able to**", "**Time**", "**Memory**", "**Read first**"]
    places = [next((i for i, line in enumerate(lines) if line.startswith(start)), None) for start in starts]
    assert None not in places and places == sorted(places), f"the first cell needs, in order: {starts}"
    goals = "\n".join(lines[places[0] : places[1]])
    assert 3 <= len(bullets(goals)) <= 5
    for profile in ("tiny", "t4", "full"):
        assert profile in "\n".join(lines[places[1] : places[2]]), f"**Time** does not name {profile}"


def test_the_second_cell_alone_is_tagged_parameters(cells):
    tagged = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [1] and cells[1].cell_type == "code"


def test_parameters_are_plain_values(cells):
    values = {}
    for statement in ast.parse(cells[1].source).body:
        assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name), ast.unparse(statement)
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert values["PROFILE"] == "tiny"
    assert isinstance(values["SEED"], int)


def test_the_third_cell_imports(cells):
    assert cells[2].cell_type == "code"
    assert isinstance(parse(cells[2]).body[0], (ast.Import, ast.ImportFrom))


def test_the_last_cell_mirrors_the_first_and_names_the_next_lesson(cells):
    recap = cells[-1]
    assert recap.cell_type == "markdown" and recap.source.startswith("## You have")
    goals = cells[0].source.split("**Time**")[0]
    assert len(bullets(recap.source)) == len(bullets(goals)), "one bullet for each of the first cell's"
    assert "next" in recap.source.lower()


def test_a_lesson_fits_a_workshop_slot(cells):
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    assert 25 <= len(cells) <= 40
    assert 800 <= words <= 1800


def test_formulas_are_plain_text_which_reads_without_a_network(cells):
    assert [cell.id for cell in cells if cell.cell_type == "markdown" and "$" in cell.source] == []


def test_no_cell_is_a_wall_of_code(cells):
    long = {
        cell.id: len(cell.source.splitlines())
        for cell in cells
        if cell.cell_type == "code" and len(cell.source.splitlines()) > MAX_CODE_LINES
    }
    assert long == {}


def test_every_exercise_has_a_stub_and_a_check(cells):
    starts = [
        i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and cell.source.startswith("### Exercise")
    ]
    assert 2 <= len(starts) <= 3
    for start, end in zip(starts, [*starts[1:], len(cells)]):
        title = cells[start].source.splitlines()[0]
        code = next((cell for cell in cells[start:end] if cell.cell_type == "code"), None)
        assert code is not None and "# <solution>" in code.source, f"{title}: its code cell needs a solution"
        assert calls_a_check(code), f"{title}: its code cell needs a check"


def test_solutions_stand_in_exercises_only(cells):
    exercises = sum(cell.source.startswith("### Exercise") for cell in cells if cell.cell_type == "markdown")
    solved = [cell for cell in cells if cell.cell_type == "code" and "# <solution>" in cell.source]
    assert len(solved) == exercises


def test_stubs_are_python_that_runs_up_to_the_learner(lesson):
    for cell in build(lesson)[0].cells:
        if cell.cell_type == "code":
            parse(cell)
