"""Sources, learner notebooks and solution notebooks say the same, solutions aside."""

import json

import pytest

from course_utils.errors import CourseError
from course_utils.runner.notebooks import STUB, blank_solutions, build, check_all, render_all, write_all

TOY = """# %% [markdown]
# # 03 · Toy

# %% tags=["parameters"]
PROFILE = "tiny"

# %%
def double(x):
    # <solution>
    y = 2 * x
    return y
    # </solution>


# <solution> stub: answer = ...
answer = double(21)
# </solution>
print(answer)
"""


@pytest.fixture
def toy(tmp_path):
    """A folder of notebooks with one source."""
    source = tmp_path / "sources" / "03_toy.py"
    source.parent.mkdir()
    source.write_text(TOY, encoding="utf-8")
    return tmp_path


def test_every_notebook_is_in_step_with_its_source():
    assert check_all() == []


def test_building_twice_gives_the_same_bytes(toy):
    assert render_all(toy) == render_all(toy)
    cells = json.loads(render_all(toy)[toy / "03_toy.ipynb"])["cells"]
    assert [cell["id"] for cell in cells] == ["cell-00", "cell-01", "platform", "cell-02"]


def test_stubs_take_the_place_of_solutions_and_nothing_else_moves(toy):
    learner, solution = build(toy / "sources" / "03_toy.py")
    assert learner.cells[2].source == f"def double(x):\n    {STUB}\n\n\nanswer = ...\nprint(answer)"
    assert solution.cells[2].source == TOY.split("# %%\n")[1].rstrip()
    assert learner.cells[:2] == solution.cells[:2]
    assert learner.cells[1].metadata == {"tags": ["parameters"]}


def test_an_edited_a_missing_and_a_stray_notebook_are_told_apart(toy):
    written = write_all(toy)
    assert written == [toy / "03_toy.ipynb", toy / "solutions" / "03_toy.ipynb"]
    assert check_all(toy) == []
    written[0].write_text(written[0].read_text(encoding="utf-8").replace("Toy", "Boy"), encoding="utf-8")
    written[1].rename(toy / "solutions" / "04_stray.ipynb")
    edited, missing, stray = check_all(toy)
    assert "differs from its source" in edited and str(written[1]) in missing and "has no source" in stray


@pytest.mark.parametrize(
    "text",
    [
        "# <solution>\nx = 1",
        "x = 1\n# </solution>",
        "# <solution>\n# <solution>\nx = 1\n# </solution>",
        "# <solution>\n# </solution>",
        "#<solution>\nx = 1\n#</solution>",
        "# <solution> answer = ...\nx = 1\n# </solution>",
    ],
)
def test_faulty_solution_markers_are_named(text):
    with pytest.raises(CourseError, match="cell 3, `.*solution"):
        blank_solutions(text, "cell 3")


def test_a_solution_in_prose_is_refused():
    with pytest.raises(CourseError, match="code cell"):
        blank_solutions("# <solution>\nforty-two\n# </solution>", code=False)


def test_a_faulty_source_leaves_the_notebooks_as_they_were(toy):
    write_all(toy)
    (toy / "sources" / "04_faulty.py").write_text("# %%\n# <solution>\nx = 1\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in toy.rglob("*.ipynb")}
    with pytest.raises(CourseError, match="04_faulty.py, cell 0"):
        write_all(toy)
    assert {path: path.read_bytes() for path in toy.rglob("*.ipynb")} == before
