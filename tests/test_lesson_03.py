"""Lesson 03: the column rule, the collator, copies and leaks, and mined negatives."""

import pytest
import torch
from executed import functions_of, output_text

from course_utils import evaluation


def test_article_the_column_rule_is_order_and_every_other_column_is_a_negative(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    assert metrics["columns/as-it-should-be"] == metrics["columns/image-before-query"] == 3
    assert metrics["columns/a-stray-column"] == 4, "a stray column reaches the loss"
    assert metrics["columns/a-column-called-label"] == 3, "a column called label does not"
    assert "columns/images-not-decoded" not in metrics
    assert "Column 'query' is at index 1" in text, "the library's warning is not shown"


def test_article_the_collator_makes_tensors_of_pages_with_preprocess(metrics):
    assert metrics["patches"] == 4 * metrics["tokens/image"] == 252


def test_it_finds_the_copy_and_the_planted_leak_and_no_other(metrics):
    assert (metrics["copies/found"], metrics["leaked/found"], metrics["leaked/planted-found"]) == (1, 0, 1)


def test_mining_brings_the_copy_and_judgements_or_a_margin_throw_it_out(metrics):
    assert metrics["mined"] > 200 and metrics["mined/false"] >= 1
    assert metrics["mined/false/after-margin"] == 0


def test_random_and_mined_negatives_are_compared_after_a_training(metrics):
    gain = metrics["ndcg@10/dev/mined"] - metrics["ndcg@10/dev/random"]
    assert metrics["ndcg@10/dev/gain-of-mining"] == pytest.approx(gain)
    assert metrics["ndcg@10/dev/random"] != metrics["ndcg@10/dev/before"], "nothing was trained"
    for name in ("before", "random", "mined"):
        assert metrics[f"ndcg@10/dev/{name}/low"] > 0.75


def test_patches_and_tokens_are_counted_from_the_grid():
    defined = functions_of("03_visual_document_data", torch=torch)
    assert defined["patches_and_tokens"](torch.tensor([[1, 18, 14], [1, 4, 2]])) == (260, 65)


def test_a_page_leaked_if_its_content_is_there_under_another_name(tmp_path):
    also_in = functions_of("03_visual_document_data", torch=torch, evaluation=evaluation)["also_in"]
    paths = {name: str(tmp_path / name) for name in ("a", "b", "c")}
    for name, content in {"a": b"one", "b": b"two", "c": b"one"}.items():
        (tmp_path / name).write_bytes(content)
    assert also_in([paths["a"], paths["b"]], [paths["b"], paths["c"]]) == [paths["c"]]
