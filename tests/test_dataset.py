"""The data set: one call in every profile, drawn once and whole, loaded from where it lies, with a version."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import pytest
from PIL import Image

from course_utils import paths
from course_utils.corpus import build_corpus, first_images, undecoded
from course_utils.dataset import page_table, prepare_dataset
from course_utils.errors import CourseError
from course_utils.pages import build, drawing, queries, splits, version
from course_utils.pages.facts import pages, wordings
from course_utils.profiles import PROFILES

TINY, FULL = PROFILES["tiny"], PROFILES["full"]
IMAGES = ["image", *(f"negative_{k}" for k in range(4))]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two test rows, one of train and one of dev, in place of the 2,345: twenty pages. `datasets` caches in tmp_path."""
    whole, drawn = splits.splits(), build.sheets()
    row = next(r for r in whole.test if wordings()[pages()[r.positive].topic]["unseen"])
    scanned = next(r for r in whole.test if r is not row and drawn[r.positive].scan)
    few = dataclasses.replace(whole, test=(row, scanned), dev=whole.dev[:1], train=whole.train[:1], general=())
    monkeypatch.setattr(build, "splits", lambda: few)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return few


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """The pages that get drawn from here on, in a pool of this very process."""
    done, draw = [], build._draw

    class Pool:
        def __init__(self, *_): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...

        def map(self, _, *jobs, chunksize):
            for sheet, folder in zip(*jobs, strict=True):
                done.append(sheet.page_id)
                yield draw(sheet, folder)

    monkeypatch.setattr(build, "ProcessPoolExecutor", Pool)
    return done


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a data set."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load(folder: Path, config: str) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), config, split="train")


# ---- one call ---------------------------------------------------------------------------------------------------


def test_every_configuration_has_the_published_columns_and_the_pages_of_its_split(dataset):
    table, drawn = page_table(TINY), build.sheets()
    assert (table.index == list(drawn)).all()
    for config, split in build.CONFIGS.items():
        rows = load(dataset, config)
        assert rows.column_names == ["query", *(["image"] if config in build.PER_TOPIC else IMAGES)]
        assert isinstance(rows[0]["image"], Image.Image)
        columns, wanted = undecoded(rows), build.rows(split, drawn)
        assert columns["query"] == list(wanted["query"])
        for name in rows.column_names[1:]:
            assert columns[name] == list(table.loc[list(wanted[name]), "path"])
    assert all(Path(path).is_file() for path in table["path"])


def test_a_quarter_of_the_pages_are_scans_without_text_and_all_are_of_one_size(dataset):
    table = page_table(TINY)
    assert 0.2 < table["scan"].mean() < 0.3
    assert (table["text"][table["scan"]] == "").all()
    for row in table.sample(60, random_state=0).itertuples():
        with Image.open(row.path) as page:
            assert (page.size, page.mode, page.format) == ((448, 576), *(("L", "JPEG") if row.scan else ("RGB", "PNG")))


def test_the_corpus_is_the_pages_once_each_as_paths_and_other_queries_ask_for_the_same(dataset):
    test = build_corpus(load(dataset, "eval"))
    assert len(test.queries) == 300 and len(test.corpus) == 1500 and test.corpus == test.paths
    assert {page for pages in test.relevant.values() for page in pages} == {r.positive for r in splits.splits().test}
    unseen = test.ask(load(dataset, "unseen"))
    assert len(unseen.queries) == 80 and unseen.corpus is test.corpus
    assert [*unseen.relevant["q3"]] == [Path(undecoded(load(dataset, "unseen"))["image"][3]).stem]


def test_published_rows_hold_bytes_and_make_a_corpus_of_images(tmp_path):
    """As on the Hub: images in the rows, one of them in two; the copy is one page of the corpus."""
    blue, red = Image.new("RGB", (8, 8), "blue"), Image.new("RGB", (8, 8), "red")
    rows = {"query": ["a", "b"], "image": [blue, red], "negative_0": [red, blue]}
    features = datasets.Features({"query": datasets.Value("string")} | {n: datasets.Image() for n in IMAGES[:2]})
    corpus = build_corpus(datasets.Dataset.from_dict(rows, features))
    assert list(corpus.corpus) == ["p0-image", "p0-negative_0"] and corpus.paths == {}
    assert corpus.relevant == {"q0": {"p0-image"}, "q1": {"p0-negative_0"}}
    assert corpus.image("p0-negative_0").getpixel((0, 0)) == (255, 0, 0)
    assert first_images(datasets.Dataset.from_dict(rows, features), 1)[0].getpixel((0, 0)) == (0, 0, 255)


def test_a_published_data_set_is_its_name_or_the_folder_of_the_pinned_commit(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **kwargs: asked.append((name, kwargs)) or "folder"
    )
    assert prepare_dataset(FULL) == FULL.dataset and page_table(FULL) is None and asked == []
    assert prepare_dataset(dataclasses.replace(FULL, dataset=f"{FULL.dataset}@abc")) == "folder"
    assert asked == [(FULL.dataset, {"repo_type": "dataset", "revision": "abc"})]


# ---- whole, moved: a data set of twenty pages -------------------------------------------------------------


def test_what_is_not_whole_is_drawn_again_to_the_same_bytes(small, tmp_path, request):
    folder = build.build_pages(tmp_path)  # drawn by other processes, so by other hash seeds
    first = contents(folder)
    assert len([name for name in first if name.startswith("images/")]) == 20
    drawn = request.getfixturevalue("drawn")
    image = folder / build.sheets()[small.test[0].positive].file
    assert build.build_pages(tmp_path) == folder and drawn == []
    for damage in (
        lambda: image.write_bytes(image.read_bytes()[:1000]),
        image.unlink,
        (folder / "eval.jsonl").unlink,
        lambda: (folder / "complete.json").write_text("{", encoding="utf-8"),
    ):
        drawn.clear()
        damage()
        assert build.build_pages(tmp_path) == folder
        assert len(drawn) == 20 and contents(folder) == first


def test_a_drawing_that_was_stopped_leaves_nothing_that_is_read(small, drawn, tmp_path, monkeypatch):
    draw = build.Sheet.draw

    def stop(sheet):
        if len(drawn) == 7:
            raise KeyboardInterrupt
        return draw(sheet)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build.Sheet, "draw", stop)
        build.build_pages(tmp_path)
    assert not build.is_whole(build.pages_folder(tmp_path))
    assert load(build.build_pages(tmp_path), "eval")[1]["negative_3"].size == (448, 576)


def test_two_that_build_at_once_draw_each_page_once(small, drawn, tmp_path, monkeypatch):
    looked, whole, draw, found = threading.Event(), build.is_whole, build.Sheet.draw, []
    second = threading.Thread(target=lambda: found.append(build.build_pages(tmp_path)))

    def look(folder):
        if threading.current_thread() is second:
            looked.set()
        return whole(folder)

    def draw_slowly(sheet):
        if len(drawn) == 1:  # the first is drawing; it goes on once the second has seen that pages are missing
            second.start()
            assert looked.wait(60)
        return draw(sheet)

    monkeypatch.setattr(build, "is_whole", look)
    monkeypatch.setattr(build.Sheet, "draw", draw_slowly)
    folder = build.build_pages(tmp_path)
    second.join(60)
    assert found == [folder] and len(drawn) == 20


def test_whoever_waits_too_long_is_told_so(small, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "WAIT", 0)
    with build.FileLock(build.pages_folder(tmp_path).with_suffix(".lock")), pytest.raises(CourseError, match="Another"):
        build.build_pages(tmp_path)


def test_a_moved_data_set_is_loaded_from_its_new_place_without_drawing(small, drawn, tmp_path):
    folder = build.build_pages(tmp_path / "here")
    assert not [name for name, data in contents(folder).items() if str(tmp_path).encode() in data]
    load(folder, "eval")
    (tmp_path / "here").rename(tmp_path / "there")
    drawn.clear()
    rows = load(build.build_pages(tmp_path / "there"), "eval")
    assert drawn == [] and rows[0]["image"].size == (448, 576)
    assert all(path.startswith((tmp_path / "there").as_posix()) for path in undecoded(rows)["image"])


def test_pages_drawn_with_other_words_are_not_taken_from_the_cache_of_datasets(small, drawn, tmp_path, monkeypatch):
    before = load(build.build_pages(tmp_path), "eval")["query"]
    build.pages_folder(tmp_path).rename(tmp_path / "factbook-0")  # an earlier version, which goes
    monkeypatch.setattr(build, "query", lambda *args: f"please: {queries.query(*args)}")
    assert list(load(build.build_pages(tmp_path), "eval")["query"]) == [f"please: {query}" for query in before]
    assert not (tmp_path / "factbook-0").exists()


# ---- the version ------------------------------------------------------------------------------------------------


def test_what_is_drawn_and_asked_is_what_the_version_stands_for():
    assert version.problem() == ""


def test_a_changed_wording_and_a_moved_pixel_ask_for_a_new_version(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setitem(queries.BY_NAME, "course", tuple(t.replace("find", "get") for t in queries.BY_NAME["course"]))
        patch.setattr(build.Sheet, "draw", lambda sheet: drawing.Drawn(Image.new("L", (1, 1)), [], "", False))
        assert "queries and pages changed: raise the version" in version.problem()
    monkeypatch.setattr(drawing, "BASELINE", drawing.BASELINE + 1)
    assert "The pages changed: raise the version" in version.problem()
    file = Path(shutil.copy(build.VERSION_FILE, tmp_path))
    monkeypatch.setattr(build, "VERSION_FILE", file)
    monkeypatch.setattr(version, "VERSION_FILE", file)
    assert version.raise_version() == version.raise_version() == build.data_version()
    assert version.problem() == ""


def test_pages_are_not_compared_where_something_else_draws_the_letters(monkeypatch):
    monkeypatch.setattr(drawing, "BASELINE", drawing.BASELINE + 1)
    monkeypatch.setattr(version.features, "version", lambda name: "of another machine")
    assert version.problem() == ""


def test_a_comment_in_any_file_changes_nothing(tmp_path):
    copy = shutil.copytree(paths.ROOT / "course_utils", tmp_path / "course_utils")
    for source in copy.rglob("*.py"):
        source.write_text(f"{source.read_text(encoding='utf-8')}\n# a comment\n", encoding="utf-8")
    shutil.copytree(paths.DATA, tmp_path / "data", ignore=shutil.ignore_patterns("cache", "models", "precomputed"))
    file = tmp_path / "data" / "wordings.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")), indent=7), encoding="utf-8")
    code = "from course_utils.pages import version; print(version.__file__, repr(version.problem()))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    said = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True, timeout=300)
    assert said.split() == [str(copy / "pages" / "version.py"), "''"]
