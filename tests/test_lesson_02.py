"""Lesson 02: one page in every form, what is refused, what a prompt costs, and the modality gap."""

import re

import numpy as np
import pytest
import torch
from executed import functions_of, output_text

FORMS = ("path", "url", "numpy-channels-last", "numpy-channels-first", "torch-channels-first", "dictionary", "message")
REFUSED = ("a-grey-page-two-axes", "bytes-of-a-file", "a-pathlib-path", "a-raw-row-of-datasets", "sound", "a-number")


@pytest.fixture(scope="module")
def defined():
    """The functions that the lesson's notebook defines, by name."""
    return functions_of("02_inputs_of_every_kind", np=np, torch=torch, model=None)


@pytest.mark.parametrize("form", FORMS)
def test_article_the_same_page_in_every_form_gives_the_same_vector(metrics, form):
    assert metrics[f"difference/{form}"] <= 1e-3


def test_a_dictionary_keeps_the_order_of_its_parts_as_a_message_does(metrics):
    for order in ("page-and-text", "text-and-page"):
        assert metrics[f"difference/dictionary-{order}"] <= 1e-3
    assert metrics["difference/order-of-parts"] > 1e-3


def test_a_list_of_messages_is_one_conversation(ran):
    text = output_text(ran[0])
    one = re.search(r"^\[message, message\] gives \((\d+),\)", text, re.MULTILINE)
    assert one and f"[[message], [message]] gives (2, {one[1]})" in text


def test_inputs_that_go_wrong_without_an_error_are_another_vector(metrics):
    assert metrics["cosine/floats-from-0-to-1"] < 0.9 and metrics["cosine/a-path-with-a-typo"] < 0.9
    assert metrics["cosine/floats-from-0-to-255"] > 0.99


def test_the_small_model_hardly_sees_colour(metrics):
    assert metrics["cosine/blue-first"] > 0.99


def test_image_tokens_tell_the_mistakes_of_exercise_2_apart(metrics):
    page = metrics["image-tokens/the-page"]
    assert page > 0 and metrics["image-tokens/floats-from-0-to-1"] == page
    assert metrics["image-tokens/a-path-with-a-typo"] == 0
    assert metrics["image-tokens/two-messages"] == 2 * page


def test_article_video_frames_are_embedded_and_their_times_count(metrics):
    assert metrics["video/tokens"] > 0
    assert metrics["difference/video-without-times"] > 1e-4


def test_unsupported_inputs_raise(metrics):
    assert {name for name in metrics if name.startswith("refused/")} == {f"refused/{name}" for name in REFUSED}


def test_a_grey_page_is_refused_as_sound(ran):
    assert re.search(r"^a-grey-page-two-axes: .*audio", output_text(ran[0]), re.MULTILINE)


def test_an_unknown_prompt_has_a_measured_cost(metrics):
    assert metrics["ndcg@10/dev/prompt-none/low"] > 0.75
    for name in ("short", "long"):
        cost = metrics["ndcg@10/dev/prompt-none"] - metrics[f"ndcg@10/dev/prompt-{name}"]
        assert np.isclose(metrics[f"ndcg@10/cost-of-prompt/{name}"], cost)
    assert metrics["ndcg@10/cost-of-prompt/long"] != 0, "the prompt did not reach the model"


def test_what_is_said_of_a_prompt_and_of_centring_is_what_the_interval_says(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]

    def verdict(name, up, down):
        low, high = metrics[f"{name}/low"], metrics[f"{name}/high"]
        return up if low > 0 else down if high < 0 else "shows no clear change"

    for name in ("short", "long"):
        share = metrics[f"ndcg@10/cost-of-prompt/{name}"] / metrics["ndcg@10/dev/prompt-none"]
        said = verdict(f"ndcg@10/cost-of-prompt/{name}", "falls", "rises")
        assert f"That is {share:.0%} of the score. So NDCG@10 {said} with this prompt." in text
    assert f"NDCG@10 {verdict('ndcg@10/gain-of-centring', 'rises', 'falls')}." in text


def test_the_modality_gap_is_beyond_chance_and_closed_by_centring(metrics):
    assert metrics["gap/distance"] > metrics["gap/distance/shuffled/high"]
    assert metrics["gap/distance/centred"] < 0.2 * metrics["gap/distance"]


def test_moving_the_pages_keeps_every_ranking_and_the_other_steps_do_not(metrics):
    assert metrics["order-changed/pages-moved"] == 0
    assert metrics["order-changed/queries-moved"] > 0 and metrics["order-changed/pages-rescaled"] > 0


def test_the_gap_is_the_distance_of_the_centroids(defined):
    corner = torch.eye(3)  # two unit vectors with the centroid (1/2, 1/2, 0), and one at (0, 0, 1)
    assert defined["between"](corner[:2], corner[2:]) == pytest.approx(1.5**0.5)


def test_a_ranking_survives_a_move_of_all_pages_but_not_of_the_queries(defined):
    q, p = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.9, 0.1], [0.8, -0.6], [0.1, 0.99]])
    before = defined["order"](q, p)
    assert (defined["order"](q, p - torch.tensor([0.5, 0.3])) == before).all()
    assert (defined["order"](q - torch.tensor([0.9, -1.0]), p) != before).any()


def test_an_array_is_made_of_whole_numbers_by_its_dtype(defined):
    pixels = np.array([[0, 1, 254, 255]], dtype=np.uint8)
    for array in (pixels, pixels.astype(int), pixels / 255):
        found = defined["as_pixels"](array)
        assert found.dtype == np.uint8 and (found == pixels).all()
