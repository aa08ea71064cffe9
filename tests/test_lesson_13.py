"""Lesson 13: gathered gradients are exact, no page is lost or doubled, and paper agrees with files."""

import ast
import math

import pytest
from executed import functions_of

from course_utils.paths import SOURCES
from course_utils.runner.notebooks import build

LESSON = "13_scale_out"
LOSSES = ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")


@pytest.fixture(scope="module")
def on_paper():
    """The function that works out the costs, from the lesson's notebook."""
    return functions_of(LESSON, BITS={"float32": 32, "int8": 8, "bits": 1}, __name__="lesson")["on_paper"]


# --- what the notebook writes and defines ---


@pytest.mark.parametrize("script", ["train.py", "encode.py"])
def test_lesson_13_its_scripts_are_whole_and_need_nothing_of_the_course(script):
    cells = [cell.source for cell in build(SOURCES / f"{LESSON}.py")[1].cells if f"/{script}" in cell.source[:80]]
    text = "\n".join(cell.partition("\n")[2] for cell in cells if cell.startswith("%%writefile"))
    ast.parse(text)
    assert "course_utils" not in text


def test_lesson_13_every_assumption_of_the_bill_counts(on_paper):
    plain = on_paper(1000)
    for name in ("parameters", "tokens", "gpu_hour"):
        default = on_paper.__defaults__[on_paper.__code__.co_varnames[1:].index(name)]
        assert on_paper(1000, **{name: 2 * default})["dollars to encode"] == pytest.approx(
            2 * plain["dollars to encode"]
        )
    for name in ("peak", "share_of_peak"):
        default = on_paper.__defaults__[on_paper.__code__.co_varnames[1:].index(name)]
        assert on_paper(1000, **{name: 2 * default})["GPU hours"] == pytest.approx(plain["GPU hours"] / 2)
    assert on_paper(1000, id_bytes=0)["GB"] == pytest.approx(1000 * 2048 * 4 / 1e9)
    assert on_paper(1000, "bits", id_bytes=0)["GB"] == pytest.approx(1000 * 2048 / 8 / 1e9)
    assert on_paper(1000, "int8", vectors=1030, dimensions=128, id_bytes=24)["GB"] == pytest.approx(
        1000 * (1030 * 128 + 24) / 1e9
    )
    on_disk, held = plain["dollars a month on S3"], plain["dollars a month in memory"]
    assert held - on_disk == pytest.approx(5 * plain["GB"]) and on_disk == pytest.approx(0.023 * plain["GB"])


# --- the lesson ---


@pytest.mark.parametrize("loss", LOSSES)
def test_lesson_13_two_processes_that_gather_train_as_one_with_the_whole_batch(metrics, loss):
    assert metrics[f"gradients/difference/{loss}/gathered"] <= 1e-4
    assert metrics[f"loss/{loss}/gathered"] == pytest.approx(metrics[f"loss/{loss}"], rel=1e-4)
    assert metrics["gradients/difference"] <= 1e-4


@pytest.mark.parametrize("loss", LOSSES)
def test_lesson_13_without_gathering_the_loss_is_lower_and_the_gradients_are_others(metrics, loss):
    assert metrics[f"loss/{loss}/not-gathered"] < metrics[f"loss/{loss}"]
    assert metrics[f"gradients/difference/{loss}/not-gathered"] > 0.01


def test_lesson_13_equal_pages_meet_across_processes_until_the_batch_is_split(metrics):
    assert metrics["duplicates/within/twins"] == metrics["duplicates/within/twins-split"] == 0
    assert metrics["duplicates/across/twins"] > 0 == metrics["duplicates/across/twins-split"]
    assert metrics["loss/twins"] >= metrics["duplicates/across/twins"] / 16 * math.log(2)


def test_lesson_13_two_workers_give_the_vectors_of_one(metrics):
    assert metrics["vectors/difference"] <= 1e-4


def test_lesson_13_no_page_is_lost_or_doubled_when_a_worker_is_killed(metrics):
    assert metrics["pages/lost"] == metrics["pages/doubled"] == 0
    assert metrics["pages/doubled-by-add"] > 0
    assert metrics["workers/killed-run/batches-of-the-dead"] == 2, "no worker died after its second batch"


def test_lesson_13_a_second_run_encodes_only_what_is_missing(metrics):
    assert metrics["resumed/lost"] == metrics["resumed/doubled"] == 0
    assert 0 < metrics["resumed/encoded"] < metrics["pages"], "the first run did not stop half way"
    assert metrics["resumed/kept"] + metrics["resumed/encoded"] == metrics["pages"]


def test_lesson_13_object_storage_answers_as_the_disk_does(metrics):
    assert metrics["s3/same-as-disk"] == 1
    assert metrics["s3/rows"] == metrics["pages"]


@pytest.mark.parametrize("precision", ["float32", "int8", "bits"])
def test_lesson_13_lancedb_s_files_are_as_large_as_on_paper(metrics, precision):
    ratios = {name: value for name, value in metrics.items() if name.startswith(f"size/ratio/{precision}")}
    assert len(ratios) == 4 and max(ratios.values()) < 1.15 and min(ratios.values()) > 0.5


def test_lesson_13_costs_grow_with_pages_and_fall_with_precision(metrics):
    for shape in ("single", "multi"):
        for precision in ("float32", "int8", "bits"):
            line = [metrics[f"cost/{10**power}/{shape}/{precision}/gb"] for power in range(3, 9)]
            assert all(b == pytest.approx(10 * a) for a, b in zip(line, line[1:], strict=False))
        sizes = [metrics[f"cost/{10**8}/{shape}/{precision}/month"] for precision in ("float32", "int8", "bits")]
        assert sizes == sorted(sizes, reverse=True)
    assert metrics[f"cost/{10**8}/multi/bits/gb"] > metrics[f"cost/{10**8}/single/float32/gb"] / 8
