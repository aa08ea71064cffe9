"""Lesson 06: gradient caching is exact, and it holds memory where the plain loss does not."""

import math

import pytest
import torch
from executed import functions_of, output_text
from torch.nn.functional import cross_entropy, normalize

NAME = "06_big_batches_in_little_memory"


@pytest.fixture(scope="module")
def functions():
    """The functions that the lesson's notebook defines, by name."""
    return functions_of(NAME, torch=torch, cross_entropy=cross_entropy, normalize=normalize, P=None)


class Toy(torch.nn.Module):
    """Embeds rows of `input_ids`, and adds the sum of their images' patches where there are any."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(50, 8, dtype=torch.float64)
        self.patches = torch.nn.Linear(3, 8, dtype=torch.float64)
        self.rows = []

    def forward(self, features):
        vectors = torch.tanh(self.words(features["input_ids"])).mean(dim=1)
        if "pixel_values" in features:
            counts = features["image_grid_thw"].prod(dim=1).tolist()
            vectors = vectors + torch.stack(
                [p.sum(dim=0) for p in self.patches(features["pixel_values"]).split(counts)]
            )
        self.rows.append(len(vectors))
        return {"sentence_embedding": vectors}


@pytest.fixture
def columns():
    """Seven queries, positives and hard negatives; images have different numbers of patches."""
    torch.manual_seed(1)

    def pages():
        grid = torch.tensor([[1, 1 + k % 3, 2] for k in range(7)])
        return {
            "input_ids": torch.randint(50, (7, 5)),
            "image_grid_thw": grid,
            "modality": "message",
            "pixel_values": torch.randn(int(grid.prod(dim=1).sum()), 3, dtype=torch.float64),
        }

    return [{"input_ids": torch.randint(50, (7, 4)), "modality": "message"}, pages(), pages()]


# --- functions of the notebook ---


def test_parts_cut_each_row_with_its_own_patches(functions, columns):
    _, pages, _ = columns
    cut = list(functions["parts"](pages, 3))
    assert [len(part["input_ids"]) for part in cut] == [3, 3, 1]
    assert [len(part["pixel_values"]) for part in cut] == [2 + 4 + 6, 2 + 4 + 6, 2]
    for name in ("input_ids", "pixel_values", "image_grid_thw"):
        assert torch.equal(torch.cat([part[name] for part in cut]), pages[name])
    assert all(part["modality"] == "message" for part in cut)
    assert all("pixel_values" not in part for part in functions["parts"](columns[0], 3))


def test_the_in_batch_loss_is_the_log_of_the_candidates_when_all_pages_are_alike(functions):
    same = torch.ones(5, 4)
    assert functions["in_batch_loss"](same, same, same).item() == pytest.approx(math.log(10))


def test_the_in_batch_loss_is_what_the_library_computes(functions):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    torch.manual_seed(2)
    vectors = [torch.randn(6, 4) for _ in range(3)]
    library = MultipleNegativesRankingLoss(model=None).compute_loss_from_embeddings(vectors, labels=None)
    assert functions["in_batch_loss"](*vectors).item() == pytest.approx(library.item(), abs=1e-6)


@pytest.mark.parametrize("mini_batch_size", [1, 3, 7, 100])
def test_caching_gives_the_gradients_of_the_whole_batch_a_few_rows_at_a_time(functions, columns, mini_batch_size):
    whole, pieces = Toy(), Toy()
    expected = functions["in_batch_loss"](*(whole(column)["sentence_embedding"] for column in columns))
    expected.backward()
    loss = functions["cached_step"](pieces, columns, mini_batch_size)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12) and not loss.requires_grad
    for one, other in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-12)
    assert max(pieces.rows) == min(mini_batch_size, 7)
    assert sum(pieces.rows) == 2 * 3 * 7, "every row is embedded twice"


def test_caching_adds_to_the_gradients_that_are_there(functions, columns):
    model = Toy()
    functions["cached_step"](model, columns, 2)
    once = [p.grad.clone() for p in model.parameters()]
    functions["cached_step"](model, columns, 2)
    assert all(torch.allclose(2 * one, p.grad) for one, p in zip(once, model.parameters(), strict=True))


def test_a_broken_pass_of_the_exercise_gives_the_right_loss_and_wrong_gradients(functions, columns):
    whole, broken = Toy(), Toy()
    loss = functions["cached_step"](whole, columns, 3)
    assert functions["broken_step"](broken, columns, 3).item() == pytest.approx(loss.item(), abs=1e-12)
    assert any(not torch.allclose(p.grad, q.grad) for p, q in zip(whole.parameters(), broken.parameters(), strict=True))


def test_a_difference_is_a_share_of_the_largest_gradient_and_a_missing_one_counts_as_zero(functions):
    functions["DEVICE"] = "cpu"
    one = {"a": torch.tensor([4.0, 1.0]), "b": torch.tensor([2.0])}
    assert functions["difference"](one, one) == 0
    assert functions["difference"](one, {"a": one["a"]}) == 0.5


# --- the lesson ---


def test_lesson_06_needs_at_most_5_gb_with_what_the_notebook_holds(metrics):
    assert metrics["memory/plain/64"] + 200 < metrics["memory/with-notebook"] < 5 * 1024


def test_lesson_06_gradient_caching_equals_the_library_and_the_plain_loss(metrics):
    assert metrics["gradients/difference"] <= 1e-5, "a share of the largest gradient"
    assert metrics["loss/difference"] <= 1e-6


def test_lesson_06_caching_holds_memory_where_the_plain_loss_grows(metrics):
    growth = {kind: metrics[f"memory/{kind}/64"] - metrics[f"memory/{kind}/8"] for kind in ("plain", "cached")}
    assert growth["plain"] >= 3 * growth["cached"] > 0
    assert metrics["memory/cached/64"] <= 1.5 * metrics["memory/cached/8"]
    assert metrics["memory/plain/8"] < metrics["memory/plain/16"] < metrics["memory/plain/64"]


def test_lesson_06_checkpointing_saves_memory_too_and_less_beside_the_cache(metrics):
    plain, cached = (metrics[f"memory/{kind}/64"] for kind in ("plain", "cached"))
    with_plain, with_cached = (metrics[f"memory/{kind}-checkpointing/64"] for kind in ("plain", "cached"))
    assert cached < with_plain < plain and with_cached < with_plain
    assert plain - with_plain > cached - with_cached


def test_lesson_06_more_pages_to_pick_from_raise_the_loss_of_the_same_embeddings(metrics):
    assert metrics["loss/batch-2"] < metrics["loss/batch-8"] < metrics["loss/batch-32"]


def test_lesson_06_a_token_budget_bounds_the_tokens_and_changes_no_loss(metrics):
    def of(measure):
        return metrics[f"mini-batch/{measure}/rows"], metrics[f"mini-batch/{measure}/tokens"]

    by_rows, by_tokens = of("pieces")
    assert by_tokens < by_rows
    assert max(of("tokens-at-most")) <= metrics["mini-batch/budget"]
    assert of("loss")[0] == pytest.approx(of("loss")[1], abs=1e-3)


def test_lesson_06_small_pages_raise_the_loss_of_the_same_rows(metrics):
    assert metrics["mini-batch/loss/rows"] > 2 * metrics["mini-batch/loss/whole-pages"]


def test_lesson_06_the_sentence_on_the_cost_of_caching_is_what_its_turns_say(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    low, middle, high = (metrics[f"seconds/cached-over-plain{end}"] for end in ("/low", "", "/high"))
    assert low <= middle <= high and f"caching take {middle:.2f} times as long" in text
    where = "inside" if low <= 4 / 3 <= high else "outside"
    assert f"lies {where} the range of the turns, {low:.3f} to {high:.3f}" in text
