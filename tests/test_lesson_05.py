"""Lesson 05: a Router is at chance until its towers are trained on pairs, and the route is what the lesson says."""

import itertools

import pytest
from executed import assert_every_cell_ran_in_order, functions_of, output_text

from course_utils.paths import NOTEBOOKS, SOLUTIONS

NAME = "05_router_with_dense"
SCORES = (
    "before",
    "stage-one",
    "after",
    "vlm-before",
    "vlm-after",
    "after/unseen-country",
    "after/scan",
    *(f"{when}/unseen-wording" for when in ("stage-one", "after", "vlm-before", "vlm-after")),
)


@pytest.fixture(scope="session")
def lesson_05(execute):
    """The solution of lesson 05, run once in full."""
    return execute(SOLUTIONS / f"{NAME}.ipynb")


@pytest.fixture(scope="module")
def metrics(lesson_05):
    return lesson_05[1]["metrics"]


# --- a function of the notebook ---


def test_the_six_questions_are_the_library_s():
    from sentence_transformers.base.modules import Router
    from torch import nn

    defined = functions_of(NAME, SEED=0)
    keys = list(itertools.product((None, "query", "document"), (None, "text", "image")))
    routes = ["fast", "text", "query"]
    for count in range(4):
        for chosen in itertools.combinations(keys, count):
            mappings = {key: routes[k % 3] for k, key in enumerate(chosen)}
            router = Router({name: [nn.Identity()] for name in routes}, route_mappings=mappings)
            for task, modality in keys:
                try:
                    expected = router._resolve_route_name(task, modality)
                except ValueError:  # a task that fits nothing
                    expected = None
                assert defined["route_of"](task, modality, mappings, routes) == expected, (task, modality, mappings)


# --- claims of the published article ---


def test_article_a_router_joins_two_encoders_and_the_modality_chooses(lesson_05):
    notebook, found = lesson_05
    assert "text route: Transformer > Pooling > Dense" in output_text(notebook)
    assert "image route: Transformer" in output_text(notebook)
    for encode in ("encode_query", "encode_document", "encode"):
        assert found["metrics"][f"route/{encode}/text"] == 0 and found["metrics"][f"route/{encode}/image"] == 1


def test_article_spaces_are_unaligned_before_training(metrics):
    assert abs(metrics["ndcg@10/before"] - metrics["ndcg@10/chance"]) <= 0.02
    assert metrics["ndcg@10/before/best-of-19-draws"] <= metrics["ndcg@10/chance"] + 0.03, (
        "a lucky draw of Dense aligns the spaces"
    )


def test_article_training_aligns_them(metrics):
    assert metrics["ndcg@10/stage-one/low"] > metrics["ndcg@10/before/high"], "stage one did not align the spaces"
    assert metrics["ndcg@10/gain/low"] > 0
    assert metrics["ndcg@10/gain"] == pytest.approx(metrics["ndcg@10/after"] - metrics["ndcg@10/before"])


def test_article_the_snippet_does_not_train_without_a_router_mapping(lesson_05):
    assert lesson_05[1]["metrics"]["refused/without-router-mapping"] == 1
    assert "did not provide a `router_mapping`" in output_text(lesson_05[0])


def test_article_dense_brings_a_tanh_unless_told_otherwise(metrics):
    from sentence_transformers.base.modules import Dense
    from torch import nn

    assert isinstance(Dense(3, 2).activation_function, nn.Tanh)
    for rate in ("small-rate", "large-rate"):
        change = metrics[f"ndcg@10/dev/tanh/{rate}"] - metrics[f"ndcg@10/dev/linear/{rate}"]
        assert metrics[f"ndcg@10/dev/gain-of-tanh/{rate}"] == pytest.approx(change)
    assert metrics["ndcg@10/dev/gain-of-tanh/large-rate"] < metrics["ndcg@10/dev/gain-of-tanh/small-rate"]


# --- the lesson ---


def test_lesson_05_runs_every_cell_and_passes_its_own_checks(lesson_05):
    notebook, found = lesson_05
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") == 2
    assert {"clouds_before", "clouds_after", "before_after", "stage_two", "systems", "free_wording"} == set(
        found["figures"]
    )
    assert found["peak_memory_mib"] < 8 * 1024


def test_lesson_05_measures_on_the_test_split_of_lesson_07_with_intervals(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    for name in SCORES:
        name = f"ndcg@10/{name}"
        assert 0 <= metrics[f"{name}/low"] <= metrics[name] <= metrics[f"{name}/high"] <= 1, name


@pytest.mark.xfail(strict=True, reason="the small SigLIP tells too few of 1,500 look-alikes apart")
@pytest.mark.parametrize("name, bar", [("ndcg@10/after", 0.80), ("ndcg@10/after/unseen-wording", 0.70)])
def test_lesson_05_reaches_the_bars_that_the_course_set_itself(metrics, name, bar):
    assert metrics[name] >= bar


def test_lesson_05_sets_parameters_and_seconds_beside_lesson_07(metrics):
    for model in ("router", "vlm"):
        assert metrics[f"parameters/{model}"] > 1e6
        assert 0 < metrics[f"seconds/query/{model}"] < metrics[f"seconds/page/{model}"]


def test_lesson_05_a_text_given_as_a_document_of_the_image_route_lands_in_another_space(metrics):
    assert abs(metrics["cosine/one-sentence-two-routes"]) < 0.9


def test_lesson_05_leaves_the_pages_where_they_were_unless_the_image_tower_is_trained(metrics):
    assert metrics["pages/moved"] == 0


def test_lesson_05_reloads_to_the_same_vectors(metrics):
    assert metrics["reload/difference"] == 0


def test_lesson_05_for_learners_trains_both_towers_on_few_rows_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / f"{NAME}.ipynb", ROWS=64, IMAGE_TOWER=True)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") == 2, "a blank stub passed its check"
    assert (found["metrics"]["queries"], found["metrics"]["rows"]) == (64, 64)
    assert found["metrics"]["pages/moved"] > 0, "the image tower was asked to learn and did not move"
