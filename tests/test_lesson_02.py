"""Lesson 02: inputs of every kind."""

import numpy as np
import pytest
from executed import assert_every_cell_ran_in_order, output_text

from course_utils.paths import NOTEBOOKS, SOLUTIONS

NAME = "02_inputs_of_every_kind"
FORMS = ("path", "url", "numpy-channels-last", "numpy-channels-first", "torch-channels-first", "dictionary", "message")
REFUSED = (
    "a-grey-page-two-axes",
    "bytes-of-a-file",
    "a-pathlib-path",
    "a-raw-row-of-datasets",
    "sound",
    "a-number",
    "sound-at-another-rate",
)


@pytest.fixture(scope="session")
def lesson_02(execute):
    return execute(SOLUTIONS / f"{NAME}.ipynb")


def test_lesson_02_runs_every_cell_and_passes_its_own_checks(lesson_02):
    notebook, found = lesson_02
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") == 2
    assert set(found["figures"]) == {"gap"} and found["metrics"]["queries"] == 60


@pytest.mark.parametrize("form", FORMS)
def test_article_the_same_page_in_every_form_gives_the_same_vector(lesson_02, form):
    assert lesson_02[1]["metrics"][f"difference/{form}"] <= 1e-3


def test_lesson_02_a_dictionary_keeps_the_order_of_its_parts_as_a_message_does(lesson_02):
    notebook, found = lesson_02
    for order in ("page-and-text", "text-and-page"):
        assert found["metrics"][f"difference/dictionary-{order}"] <= 1e-3
    assert found["metrics"]["difference/order-of-parts"] > 1e-3
    assert "[message, message]: (192,) | [[message], [message]]: (2, 192)" in output_text(notebook)


def test_lesson_02_inputs_that_go_wrong_without_a_word_are_another_vector(lesson_02):
    metrics = lesson_02[1]["metrics"]
    assert metrics["cosine/floats-from-0-to-1"] < 0.9 and metrics["cosine/a-path-with-a-typo"] < 0.9


def test_article_video_frames_and_sounds_are_embedded(lesson_02):
    metrics = lesson_02[1]["metrics"]
    assert metrics["video/tokens"] > 0 and metrics["audio/dimensions"] == 32
    assert metrics["audio/two-tones"] > 1e-3, "two tones give one vector: the sound did not reach the model"


def test_lesson_02_unsupported_inputs_raise_and_are_shown(lesson_02):
    text, refused = output_text(lesson_02[0]), {name for name in lesson_02[1]["metrics"] if name.startswith("refused/")}
    assert refused == {f"refused/{name}" for name in REFUSED} and "accepted" not in text
    assert "sound: Modality 'audio' is not supported" in text and "trained using a sampling rate of 48000" in text


def test_lesson_02_an_unknown_prompt_has_a_measured_cost(lesson_02):
    metrics = lesson_02[1]["metrics"]
    for name in ("short", "long"):
        cost = f"ndcg@10/cost-of-prompt/{name}"
        assert metrics[f"{cost}/low"] <= metrics[cost] <= metrics[f"{cost}/high"]
        assert np.isclose(metrics[cost], metrics["ndcg@10/dev/prompt-none"] - metrics[f"ndcg@10/dev/prompt-{name}"])
    assert metrics["ndcg@10/cost-of-prompt/long"] != 0, "the prompt did not reach the model"


def test_lesson_02_the_modality_gap_is_measured_against_chance_and_closed_by_centring(lesson_02):
    metrics = lesson_02[1]["metrics"]
    assert (
        0
        < metrics["gap/distance/shuffled/low"]
        <= metrics["gap/distance/shuffled"]
        <= metrics["gap/distance/shuffled/high"]
    )
    assert metrics["gap/distance"] > metrics["gap/distance/shuffled/high"]
    assert metrics["gap/distance/centred"] < 0.2 * metrics["gap/distance"]
    assert metrics["ndcg@10/gain-of-centring/low"] <= metrics["ndcg@10/gain-of-centring/high"]


def test_lesson_02_for_learners_runs_on_few_rows_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / f"{NAME}.ipynb", ROWS=8)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") == 2, "a blank stub passed its check"
    assert found["metrics"]["queries"] == 8
