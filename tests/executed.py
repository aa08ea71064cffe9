"""Reading executed notebooks."""


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_text(notebook):
    return "\n".join(out.get("text", "") for cell in code(notebook) for out in cell.outputs)


def assert_every_cell_ran_in_order(notebook):
    counts = [cell.execution_count for cell in code(notebook) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))
