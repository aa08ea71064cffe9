"""The version is the same wherever it stands, and the notices name all that is shipped."""

import re
import tomllib

import yaml

from course_utils.paths import DATA, ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_the_citation_and_the_newest_entry_of_the_changelog_have_the_project_s_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and {"title", "message", "authors"} <= citation.keys()
    assert citation["version"] == VERSION
    changelog = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == VERSION


def test_the_notices_name_every_family_of_fonts_and_every_folder_of_data_that_others_made():
    notices = (ROOT / "docs" / "third_party.md").read_text(encoding="utf-8")
    families = {re.sub(r"(?<!^)([A-Z])", r" \1", path.stem.split("-")[0]) for path in (DATA / "fonts").glob("*.[ot]tf")}
    assert families and all(family in notices for family in families)
    assert all(f"data/{name}" in notices for name in ("fonts", "models", "factbook_"))
