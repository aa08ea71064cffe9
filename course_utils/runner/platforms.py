"""Opening a lesson elsewhere: the cell that Colab and Kaggle need, and the badges; both from one setting.

The setting is `repository` under `[tool.course]` in pyproject.toml: the address, as https://github.com/owner/name. The
revision is the tag of the version in the same file.
"""

import tomllib

import nbformat
from nbformat import NotebookNode

from course_utils.paths import ROOT

TAGS = ["remove-cell"]  # the book leaves it out
CELL = """# @title On Colab and Kaggle, this cell gets the course. Elsewhere it does nothing.
import os, shutil, subprocess, sys

if {{"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}} & os.environ.keys():
    address, version = "{address}", "{version}"
    if not address:
        raise SystemExit("Set `address` in this cell to the address of the course's repository.")
    if not os.path.exists("course"):
        shutil.rmtree("course.part", ignore_errors=True)  # of a download that was stopped
        clone = "git -c advice.detachedHead=false clone --quiet --depth=1 --branch".split()
        if subprocess.run([*clone, version, address, "course.part"]).returncode:
            raise SystemExit("The course could not be fetched: check the connection and try again.")
        os.rename("course.part", "course")
    sys.path.insert(0, os.path.abspath("course"))
    from course_utils.hosted import prepare

    PROFILE = prepare(PROFILE)"""


def setting() -> tuple[str, str]:
    """The repository's address, "" if it is not set, and the tag of this version."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return content["tool"]["course"]["repository"].rstrip("/"), f"v{content['project']['version']}"


def platform_cell() -> NotebookNode:
    """The cell, folded where a platform can fold it. It follows the parameters, since it may choose the profile."""
    address, version = setting()
    metadata = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": TAGS}
    return nbformat.v4.new_code_cell(
        CELL.format(address=address, version=version), id="platform", metadata=nbformat.from_dict(metadata)
    )


def launch_links(name: str, address: str, version: str) -> dict[str, str]:
    """Where the notebook `name` of the repository opens, by platform; nothing without an address on GitHub."""
    if not address.startswith("https://github.com/"):
        return {}
    place = f"{address.removeprefix('https://github.com/')}/blob/{version}/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{address.removeprefix('https://github.com/')}/{version}"
    return {
        "Colab": f"https://colab.research.google.com/github/{place}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}",
        "Binder": f"{binder}?urlpath=lab/tree/notebooks/{name}",
    }


def launch_line(name: str) -> str:
    """The same in Markdown: `Open in [Colab](…) · [Kaggle](…) · [Binder](…)`, or ""."""
    links = [f"[{where}]({link})" for where, link in launch_links(name, *setting()).items()]
    return f"Open in {' · '.join(links)}" if links else ""
