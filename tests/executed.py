"""Reading notebooks: what an executed one shows, and the functions that one defines."""

import ast
import re

from course_utils.paths import ROOT, SOURCES


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_text(notebook):
    return "\n".join(out.get("text", "") for cell in code(notebook) for out in cell.outputs)


def assert_every_cell_ran_in_order(notebook):
    counts = [cell.execution_count for cell in code(notebook) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


def functions_of(lesson, **names):
    """The functions that a lesson's notebook defines, by name; `names` are what they use of its imports and parameters."""
    tree = ast.parse((SOURCES / f"{lesson}.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    exec(compile(tree, lesson, "exec"), names)
    return names


def readme_figures(row):
    """The figures with three decimals in the README's table of results, of the row that begins so."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (found,) = [line for line in lines if line.startswith(f"| {row}")]
    return [float(figure) for figure in re.findall(r"\b\d\.\d{3}\b", found)]
