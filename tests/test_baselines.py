"""Readers who know too little."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from course_utils import baselines, evaluation
from course_utils.errors import CourseError

# Four countries by three topics; one query with one relevant page, one with two.
TABLE = pd.DataFrame([{"page_id": f"{c}{t}", "country": c, "topic": t} for c in "ABCD" for t in "xyz"])
TABLE = TABLE.set_index("page_id")
RELEVANT = {"q0": {"Ax"}, "q1": {"Bx", "By"}}


def test_ceilings_are_the_expected_scores_of_readers_who_guess():
    found = baselines.ceilings(["q0", "q1"], RELEVANT, list(TABLE.index), TABLE)
    assert list(found) == ["random", "topic-only", "country-only"]
    assert list(baselines.ceilings(["q0"], RELEVANT, list(TABLE.index))) == ["random"]  # without a table, chance only
    weights = evaluation.discounts(10)
    assert found["random"][0] == pytest.approx(weights.sum() / 12)
    assert found["topic-only"][0] == pytest.approx(weights[:4].mean())
    assert found["country-only"][0] == pytest.approx(weights[:3].mean())
    assert found["country-only"][1] == pytest.approx(weights[:3].sum() * 2 / 3 / weights[:2].sum())


def test_ceilings_follow_the_corpus_and_not_the_table():
    # "Ax" is the only page of its country in this corpus, so who knows the country is perfect
    assert baselines.ceilings(["q0"], RELEVANT, ["Ax", "Bx"], TABLE)["country-only"] == pytest.approx([1.0])


def test_a_judgement_that_is_missing_is_named():
    with pytest.raises(CourseError, match="'Ax'"):
        baselines.ceilings(["q0"], RELEVANT, ["Bx", "By"], TABLE)


def simulate(candidates, found, relevant, pages, k=10, draws=8000):
    """NDCG@k of readers who shuffle the candidates, then the rest."""
    rng = np.random.default_rng(0)
    first, rest = np.arange(candidates) < found, np.arange(pages - candidates) < relevant - found
    order = np.concatenate([rng.permuted(np.tile(part, (draws, 1)), axis=1) for part in (first, rest)], axis=1)
    weights = evaluation.discounts(min(k, pages))
    return (order[:, :k] @ weights / evaluation.discounts(min(k, relevant)).sum()).mean()


@pytest.mark.parametrize(
    ("candidates", "found", "relevant", "pages"),
    [(30, 2, 2, 60), (4, 1, 3, 40), (0, 0, 5, 50), (7, 7, 7, 20), (5, 0, 2, 8), (12, 3, 12, 12 + 30), (6, 2, 2, 6)],
)
def test_the_expected_score_agrees_with_a_simulation(candidates, found, relevant, pages):
    exact = evaluation.expected_ndcg(candidates, found, relevant, pages)
    assert exact == pytest.approx(simulate(candidates, found, relevant, pages), abs=0.012)


def test_ocr_of_other_pages_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "OCR_FILE", tmp_path / "ocr.json.gz")
    for pages, works in ((baselines.pages_folder().name, True), ("factbook-0", False)):
        content = {"pages": pages, "texts": {"a": "words"}}
        baselines.OCR_FILE.write_bytes(gzip.compress(json.dumps(content).encode()))
        if works:
            assert baselines.ocr_texts() == {"a": "words"}
        else:
            with pytest.raises(CourseError, match="course_utils.maintain.ocr"):
                baselines.ocr_texts()
