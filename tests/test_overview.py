"""README, `course list` and lesson 00's table say what the lessons' first cells say."""

from click.testing import CliRunner

from course_utils import finetuned
from course_utils.evaluation import Interval
from course_utils.overview import lesson_table, profile_table
from course_utils.paths import NOTEBOOKS, ROOT
from course_utils.profiles import PROFILES
from course_utils.runner.cli import main
from course_utils.runner.lessons import find_lessons, format_minutes, read_header
from course_utils.runner.notebooks import check_all, write_all

HEADERS = [lesson.header() for lesson in find_lessons(NOTEBOOKS)]


def test_every_lesson_says_its_minutes_and_memory_in_every_profile():
    for header in HEADERS:
        assert header.title and header.goal
        assert header.minutes.keys() == header.memory.keys() == PROFILES.keys(), header.title
        assert 30 <= header.learning <= 45, header.title


def test_a_header_is_read_with_its_units():
    header = read_header(
        "# 07 · Toy\n\n- do it\n\n**Time** tiny 30 s · t4 about 5 min · full 1.5 h\n\n**Learning time** about 40 min\n\n"
        "**Memory** tiny 1.6 GB"
    )
    assert (header.learning, read_header("# 07 · Toy").learning) == (40, None)
    assert (header.title, header.goal, header.memory) == ("07 · Toy", "do it", {"tiny": 1.6})
    assert header.minutes == {"tiny": 0.5, "t4": 5, "full": 90}
    assert [format_minutes(value) for value in (0.5, 5, 90, 436, None)] == ["30 s", "5 min", "90 min", "7.3 h", "–"]


def test_the_table_of_lesson_00_has_every_lesson_and_their_sum():
    table = lesson_table()
    assert list(table.columns) == ["to learn", *PROFILES] and list(profile_table().columns) == list(PROFILES)
    assert list(table.index[:-1]) == [header.title for header in HEADERS]
    for profile in PROFILES:
        assert table[profile].iloc[-1] == format_minutes(sum(header.minutes[profile] for header in HEADERS))
    assert table["to learn"].iloc[-1] == format_minutes(sum(header.learning for header in HEADERS))


def test_the_list_says_what_the_headers_say():
    listed = CliRunner().invoke(main, ["list"]).output
    for header in HEADERS:
        line = next(line for line in listed.splitlines() if header.title in line)
        for profile in PROFILES:
            assert f"{format_minutes(header.minutes[profile])}, {header.memory[profile]:g} GB" in line


def test_the_readme_s_table_is_made_from_the_headers_and_a_changed_one_is_out_of_step(tmp_path):
    source = tmp_path / "notebooks" / "sources" / "03_toy.py"
    source.parent.mkdir(parents=True)
    first_cell = "# # 03 · Toy\n#\n# **Time** tiny 2 min\n#\n# **Learning time** about 40 min"
    text = f'# %% [markdown]\n{first_cell}\n\n# %% tags=["parameters"]\nSEED = 0\n'
    source.write_text(text, encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- lessons -->\n<!-- /lessons -->\nafter\n", encoding="utf-8")
    assert readme in write_all(tmp_path / "notebooks")
    written = readme.read_text(encoding="utf-8")
    assert "[Toy](notebooks/03_toy.ipynb)" in written and "| 40 min | 2 min |" in written
    assert written.startswith("before\n") and written.endswith("after\n") and check_all(tmp_path / "notebooks") == []
    source.write_text(text.replace("2 min", "9 min"), encoding="utf-8")
    assert any("README.md" in difference for difference in check_all(tmp_path / "notebooks"))


def test_the_readme_gives_the_figures_of_lesson_07_that_come_with_the_course():
    readme, found = (ROOT / "README.md").read_text(encoding="utf-8"), finetuned.trials()["seed-0"]
    for kind in ("", "/unseen-wording", "/unseen-natural"):
        for when in ("before", "after", "gain"):
            mean, low, high = (found[f"ndcg@10/{when}{kind}{end}"] for end in ("", "/low", "/high"))
            given = f"{mean:.3f} [{low:.3f}, {high:.3f}]"
            assert str(Interval(mean, low, high, 1)).startswith(given) and given in readme, (when, kind)
