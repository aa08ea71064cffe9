"""Lesson 03: the column rule, the collator, copies and leaks, and mined negatives."""

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Image
from executed import functions_of, output_text


def test_article_the_column_rule_is_order_and_every_other_column_is_a_negative(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    assert metrics["columns/as-it-should-be"] == metrics["columns/image-before-query"] == 3
    assert metrics["columns/a-stray-column"] == 4, "a stray column reaches the loss"
    assert metrics["columns/a-column-called-label"] == 3, "a column called label does not"
    assert "columns/images-not-decoded" not in metrics
    assert "images-not-decoded: ValueError" in text and text.count(": ValueError: ") == 1
    assert "Column 'query' is at index 1" in text, "the library's warning is not shown"


def test_article_the_collator_makes_tensors_of_pages_with_preprocess(metrics):
    assert metrics["patches"] == 4 * metrics["tokens/image"] == 252


def test_three_stored_sizes_give_the_model_the_same_tokens(metrics):
    sizes = ("as-scanned", "as-stored", "as-the-model-reads")
    assert {metrics[f"tokens/{size}"] for size in sizes} == {metrics["tokens/image"]}
    assert all(metrics[f"seconds/preprocess/{size}"] > 0 for size in sizes)


def test_a_copy_that_was_judged_counts_for_the_original_once_judgements_are_merged(metrics):
    assert metrics["copies/found"] == 1
    assert (metrics["original-counts/judged"], metrics["original-counts/merged"]) == (0, 1)


def test_dev_pages_are_compared_with_all_pages_of_training_and_the_planted_leak_is_found(metrics):
    assert metrics["leaked/training-pages"] > 1900, "a sample of the rows was compared"
    assert (metrics["leaked/found"], metrics["leaked/planted-found"]) == (0, 1)


def test_mining_brings_the_copy_and_judgements_or_a_margin_throw_it_out(metrics):
    assert metrics["mined"] > 200 and metrics["mined/false"] >= 1
    assert metrics["mined/first-is-the-copy"] == 1
    assert metrics["mined/false/after-margin"] == 0


def test_a_negative_that_the_margin_drops_is_counted_though_another_takes_its_place(metrics):
    assert metrics["mined/changed"] + metrics["mined/lost"] >= metrics["mined/false"]


def test_the_sentence_on_what_else_the_margin_removes_is_what_was_counted(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    other = metrics["mined/changed"] + metrics["mined/lost"] - metrics["mined/false"]
    said = f"the negatives of {other:.0f} other queries" if other else "nothing else"
    assert f"You saw the margin also remove {said}." in text


def test_the_conclusion_on_mining_is_what_the_interval_says(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    low, high = (metrics[f"ndcg@10/dev/gain-of-mining/{end}"] for end in ("low", "high"))
    side = "above zero" if low > 0 else "below zero" if high < 0 else "on both sides of zero"
    assert f"So the interval lies {side}" in text


def test_random_and_mined_negatives_are_compared_after_a_training(metrics):
    gain = metrics["ndcg@10/dev/mined"] - metrics["ndcg@10/dev/random"]
    assert metrics["ndcg@10/dev/gain-of-mining"] == pytest.approx(gain)
    trained = metrics["ndcg@10/dev/random"], metrics["ndcg@10/dev/mined"]
    assert min(trained) > metrics["ndcg@10/dev/before"] > 0.75


def test_patches_and_tokens_are_counted_from_the_grid():
    defined = functions_of("03_visual_document_data", torch=torch)
    assert defined["patches_and_tokens"](torch.tensor([[1, 18, 14], [1, 4, 2]])) == (260, 65)


def test_a_fingerprint_is_of_the_content_and_not_of_the_name(tmp_path):
    names = {"sha256": sha256, "Path": Path, "Image": Image}
    fingerprints = functions_of("03_visual_document_data", torch=torch, **names)["fingerprints"]
    for name, content in {"a": b"one", "b": b"two", "c": b"one"}.items():
        (tmp_path / name).write_bytes(content)

    def rows(image, negative):
        columns = {"image": [str(tmp_path / image)], "negative_0": [str(tmp_path / negative)]}
        data = Dataset.from_dict({"query": ["q"], **columns})
        return data.cast_column("image", Image()).cast_column("negative_0", Image())

    assert len(fingerprints(rows("a", "b"))) == 2
    assert fingerprints(rows("a", "a")) == fingerprints(rows("c", "c")) < fingerprints(rows("a", "b"))
