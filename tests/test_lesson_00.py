"""Lesson 00 shows the end first: this machine is ready, and finetuning gained."""

from executed import output_text


def test_this_machine_is_ready(ran):
    notebook, found = ran
    assert found["metrics"]["checks/fail"] == 0, output_text(notebook)
    assert found["metrics"]["checks/ok"] >= 4


def test_finetuning_gained_over_all_the_test_pages(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    assert metrics["ndcg@10/gain/low"] > 0
    assert metrics["ndcg@10/after/low"] > metrics["ndcg@10/before/high"]


def test_it_says_whose_vectors_it_shows(ran):
    notebook, found = ran
    label = "precomputed" if found["metrics"]["precomputed"] else "your own, from lesson 07"
    assert f"vectors: {label}" in output_text(notebook)
