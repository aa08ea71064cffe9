"""Embeddings of lesson 07: the learner's own first, then those shipped with a label, never a file that does not fit."""

from pathlib import Path

import pytest
import torch

from course_utils import finetuned, paths
from course_utils.errors import CourseError
from course_utils.maintain.trials import TRIALS
from course_utils.profiles import PROFILES

TINY = PROFILES["tiny"]
QUERY_IDS, PAGE_IDS = ["q0", "q1"], ["a", "b", "c"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Where lesson 07 would leave its embeddings, in a build of its own; nothing is shipped."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    monkeypatch.setattr(finetuned, "pages_folder", lambda: Path("pages-of-today"))
    return tmp_path / "build" / finetuned.LESSON / finetuned.FILE


@pytest.fixture
def shipped(tmp_path, own):
    return tmp_path / "data" / "precomputed" / finetuned.FILE


def vectors(value=1.0, unseen=True):
    rows = {"queries_before": 2, "queries_after": 2, "pages_before": 3, "pages_after": 3}
    rows |= {"dev_queries_after": 1, "dev_pages_after": 5}
    rows |= {"unseen_before": 4, "unseen_after": 4} if unseen else {}
    return {name: torch.full((count, 8), value) for name, count in rows.items()}


def save(path, **changed):
    return finetuned.save_embeddings(path, TINY, QUERY_IDS, PAGE_IDS, **(vectors() | changed))


def test_what_is_saved_is_read_as_unit_vectors_with_its_ids(own):
    save(own)
    (own.parent / "model").mkdir()
    (own.parent / "model" / "modules.json").touch()
    found = finetuned.finetuned("tiny")
    assert (found.query_ids, found.page_ids, found.label, found.model) == (
        QUERY_IDS,
        PAGE_IDS,
        "",
        str(own.parent / "model"),
    )
    assert found.pages_after.shape == (3, 8) and found.pages_after.dtype == torch.float32
    assert torch.allclose(found.unseen_after.norm(dim=1), torch.ones(4))


def test_shipped_embeddings_take_the_place_of_missing_ones_and_say_so(own, shipped):
    save(shipped)
    found = finetuned.finetuned(TINY)
    assert (found.label, found.model, found.title("Scores")) == ("precomputed", None, "Scores (precomputed)")
    save(own)
    assert finetuned.finetuned(TINY).title("Scores") == "Scores"


@pytest.mark.parametrize("fault", ["cut off", "another model", "other pages", "another profile"])
def test_own_embeddings_that_do_not_fit_do_not_count(own, shipped, fault, monkeypatch):
    save(shipped)
    if fault == "cut off":
        save(own)
        own.write_bytes(own.read_bytes()[:-10])
    elif fault == "another profile":
        finetuned.save_embeddings(own, PROFILES["full"], QUERY_IDS, PAGE_IDS, **vectors(unseen=False))
    else:
        with monkeypatch.context() as patch:
            if fault == "another model":
                patch.setattr(finetuned, "fingerprint", lambda *_: "of yesterday")
            else:
                patch.setattr(finetuned, "pages_folder", lambda: Path("of yesterday"))
            save(own)
    assert finetuned.finetuned(TINY).label == "precomputed"


@pytest.mark.parametrize(("profile", "command"), [("tiny", "course run 07"), ("t4", "course run 07 --profile t4")])
def test_without_embeddings_that_fit_the_error_says_what_to_run(own, profile, command):
    with pytest.raises(CourseError, match=command):
        finetuned.finetuned(profile)


def test_data_without_unseen_wordings_has_none(own):
    finetuned.save_embeddings(own, PROFILES["full"], QUERY_IDS, PAGE_IDS, **vectors(unseen=False))
    assert finetuned.finetuned("full").unseen_before is None


def test_vectors_that_are_not_finite_are_not_written(own):
    with pytest.raises(CourseError, match="not finite"):
        save(own, queries_before=torch.full((2, 8), float("nan")))
    assert not own.exists()


def test_the_shipped_results_fit_the_shipped_checkpoint_and_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    found = finetuned.finetuned("tiny")
    assert (len(found.query_ids), len(found.page_ids), found.label) == (300, 1500, "precomputed")
    shipped = finetuned.trials()
    assert shipped.keys() == TRIALS.keys()
    for figures in shipped.values():
        assert {"phrases", "ndcg@10/before", "ndcg@10/after/low", "ndcg@10/gain/high"} <= figures.keys()
        assert any(name.startswith("ndcg@10/dev/step-") for name in figures)
