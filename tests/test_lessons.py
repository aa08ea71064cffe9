"""Every lesson runs offline as papermill runs it: solved in full, and with its exercises blank on a few rows.

The short runs have a pretended GPU, so that a tensor left on the wrong device stops them as CUDA would.
"""

import re

from executed import assert_every_cell_ran_in_order, code, output_text

from course_utils.paths import NOTEBOOKS, SOLUTIONS

# What makes the learner's run short, and what it then records.
SHORTENED = {
    "00": ({"ROWS": 50}, {}),
    "01": ({"ROWS": 8}, {}),
    "02": ({"ROWS": 8}, {"queries": 8}),
    "03": ({"ROWS": 16}, {"rows": 16}),
    "04": ({"ROWS": 20}, {"queries": 20}),
    "05": ({"ROWS": 64, "IMAGE_TOWER": True}, {"queries": 64, "rows": 64}),
    "06": ({"ROWS": 16}, {"rows": 16}),
    "07": ({"ROWS": 128}, {"steps": 4}),
    "08": ({"ROWS": 12}, {}),
    "09": ({"ROWS": 8}, {"queries": 8}),
    "10": ({"ROWS": 8}, {"queries": 8}),
    "11": ({"ROWS": 8}, {"queries": 8}),
    "12": ({"ROWS": 24}, {}),
    "13": ({"ROWS": 24}, {}),
}


def exercises(notebook):
    return sum(cell.source.startswith("### Exercise") for cell in notebook.cells)


def test_a_solved_lesson_runs_and_passes_its_own_checks(lesson, execute):
    notebook, found = execute(SOLUTIONS / f"{lesson.stem}.ipynb")
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook)
    assert output_text(notebook).count("✓") >= exercises(notebook)
    assert (found["lesson"], found["profile"]) == (lesson.stem, "tiny")


def test_a_lesson_leaves_every_figure_that_its_cells_draw(lesson, execute):
    notebook, found = execute(SOLUTIONS / f"{lesson.stem}.ipynb")
    named = re.findall(r'run\.figure\(\s*"(\w+)"', "\n".join(cell.source for cell in code(notebook)))
    assert sorted(found["figures"]) == sorted(named) != []


def test_a_lesson_keeps_to_the_memory_that_its_header_names(lesson, execute):
    notebook, found = execute(SOLUTIONS / f"{lesson.stem}.ipynb")
    gigabytes = float(re.search(r"^\*\*Memory\*\* tiny ([\d.]+) GB", notebook.cells[0].source, re.MULTILINE)[1])
    assert found["peak_memory_mib"] <= 1.25 * 1024 * gigabytes


def test_a_learner_s_lesson_runs_on_few_rows_of_a_pretended_gpu_and_no_blank_exercise_passes(lesson, execute):
    parameters, recorded = SHORTENED[lesson.stem[:2]]
    notebook, found = execute(NOTEBOOKS / f"{lesson.stem}.ipynb", gpu_gb=16, **parameters)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook), "a blank stub passed its check"
    assert output_text(notebook).count("✗") >= exercises(notebook)
    assert recorded.items() <= found["metrics"].items()
