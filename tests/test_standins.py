"""The stand-ins: made resumably, sealed by hash, and of the published classes."""

import random
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import CrossEncoder, SentenceTransformer

from course_utils import checkpoints, paths
from course_utils.errors import CourseError
from course_utils.maintain.standins import pictures
from course_utils.maintain.standins.architecture import new_model
from course_utils.maintain.standins.build import save_reranker, save_vlm
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.pretrain import Recipe, Trainer, patches
from course_utils.maintain.standins.reranker import PAGE, RerankerRecipe, RerankerTrainer, pair
from course_utils.maintain.standins.siglip import SIDE, Rotary, SiglipRecipe, SiglipTrainer, new_siglip
from course_utils.maintain.standins.texts import LookAlikes, Teacher, plain_words
from course_utils.pages import facts
from course_utils.pages.facts import wordings
from course_utils.pages.splits import splits

STEPS = {"strip_steps": 1, "sheet_steps": 1, "crop_steps": 1, "page_steps": 1, "learning_rate": 1e-3}
RECIPE = Recipe(**STEPS, strips=2, sheets=2, crops=4, pages=4, others=4, texts=4, pool=12)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return GeneralPages(tmp_path_factory.mktemp("general"), 1, splits().general[:12])


@pytest.fixture(scope="module")
def teacher(corpus, tmp_path_factory):
    return Teacher(new_model()[1].tokenizer, corpus, tmp_path_factory.mktemp("teacher"), count=32)


def train(corpus, teacher, folder, stops):
    """Train the toy recipe in as many processes' worth of trainers as there are stops; the weights at the end."""
    for stop in stops:
        model, processor = new_model()
        trainer = Trainer(model, processor, corpus, teacher, RECIPE, folder)
        list(trainer.run(stop_at=stop, save_every=1))
        trainer.close()
    return model.state_dict()


@pytest.mark.slow
def test_training_stopped_and_resumed_gives_the_same_weights_as_in_one_go(corpus, teacher, tmp_path):
    whole = train(corpus, teacher, tmp_path / "whole", [4])
    parts = train(corpus, teacher, tmp_path / "parts", [1, 3, 4])
    fresh = new_model()[0].state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], fresh[name]) for name in whole)


def test_a_batch_of_look_alikes_holds_no_page_twice_and_half_of_it_shares_a_country_or_a_topic():
    pages = [page for page in facts.pages().values()][:2000] * 2
    rng = random.Random(0)
    for _ in range(20):
        drawn = [pages[k] for k in LookAlikes(pages).draw(24, rng)]
        assert len({page.id for page in drawn}) == 24
        countries, topics = Counter(page.country for page in drawn), Counter(page.topic for page in drawn)
        assert sum(countries[page.country] > 1 or topics[page.topic] > 1 for page in drawn) >= 10


def test_the_words_of_a_picture_lie_on_its_ink(corpus):
    """Strips, turned sheets and moved pages: there is more ink in the boxes of headings than elsewhere."""
    rng = random.Random(0)
    strips = [pictures.strip(corpus, ["Exports", "Chad", "Roads"], rng, 0.4) for _ in range(12)]
    sheets = [pictures.sheet(strips, rng) for _ in range(6)]
    moved = [pictures.picture(corpus, k, False, rng) for k in range(6)]
    for image, words in strips + sheets + moved:
        ink = np.abs(image.astype(float).mean(2) - np.median(image))
        inside = np.zeros(ink.shape, bool)
        for _, (x0, y0, x1, y1) in words:
            inside[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = True
        assert ink[inside].mean() > 1.5 * ink[~inside].mean()


def test_an_image_token_is_asked_for_the_words_in_it():
    words = [("Chad", (2, 8, 30, 28)), ("exports", (40, 8, 90, 28))]
    words += [("tiny", (100, 8, 120, 12)), ("unknown", (0, 40, 30, 60))]
    found = pictures.cells(words, 2, {"chad": [0], "exports": [1, 2], "tiny": [3]})
    assert found == {0: {0}, 1: {1, 2}, 2: {1, 2}}


def test_the_teacher_never_says_a_word_of_the_unseen_wordings(corpus, teacher):
    words = plain_words(new_model()[1].tokenizer)
    unseen = {word[:5] for kinds in wordings().values() for word in " ".join(kinds["unseen"]).lower().split()}
    assert len(words) > 5000 and all(word[:5] not in unseen for word in words)
    assert teacher.vectors.shape == (32, 384) and teacher.of_page.shape == (len(corpus.pages), 384)


@pytest.mark.parametrize("name", ["tiny-qwen3-vl", "tiny-qwen3-vl-embedding", "tiny-qwen3-vl-reranker", "tiny-siglip"])
def test_a_stand_in_is_small_sealed_and_has_a_card_with_its_scores(name):
    folder = paths.MODELS / name
    assert checkpoints.checkpoint(name) == str(folder)
    weights = folder / "model.safetensors"
    assert weights.stat().st_size < 35 * 2**20
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "do not predict the published model's scores" in card.replace("\n", " ") and "Measured here" in card


def test_the_embedding_stand_in_is_built_like_the_published_model():
    model = SentenceTransformer(checkpoints.checkpoint("tiny-qwen3-vl-embedding"), model_kwargs={"dtype": "float32"})
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]
    assert model[1].pooling_mode == "lasttoken"
    assert set(model.modalities) == {"text", "image", "video", "message"}
    assert not (paths.MODELS / "tiny-qwen3-vl" / "modules.json").exists()


def test_a_missing_checkpoint_is_named_with_what_to_do(tmp_path, monkeypatch):
    models = shutil.copytree(paths.MODELS, tmp_path / "models")
    monkeypatch.setattr(paths, "MODELS", models)
    shutil.rmtree(models / "tiny-qwen3-vl-embedding")
    with pytest.raises(CourseError, match="missing.*build-standins"):
        checkpoints.checkpoint("tiny-qwen3-vl-embedding")


@pytest.mark.slow
def test_siglip_and_reranker_stopped_and_resumed_are_the_same_as_in_one_go(corpus, teacher, tmp_path):
    wide = GeneralPages(tmp_path, 1, splits().general[:12], width=SIDE)

    def siglip(folder):
        reader, processor = new_model()
        model, its_processor = new_siglip(reader, processor.tokenizer)
        recipe = SiglipRecipe(3, 1e-3, sheets=2, pages=4, texts=4, pool=12)
        return model, SiglipTrainer(model, its_processor, reader, wide, teacher, recipe, folder)

    def reranker(folder):
        model, processor = new_model()
        return model, RerankerTrainer(
            model, processor, corpus, RerankerRecipe(3, 1e-3, pages=6, queries=5, candidates=3), folder
        )

    for make in (siglip, reranker):
        weights = {}
        for way, ends in {"whole": [3], "parts": [1, 3]}.items():
            for stop in ends:
                model, trainer = make(tmp_path / make.__name__ / way)
                list(trainer.run(stop_at=stop, save_every=1))
                trainer.close()
            weights[way] = model.state_dict()
        fresh = make(tmp_path / "fresh")[0].state_dict()
        assert all(torch.equal(weights["whole"][name], weights["parts"][name]) for name in fresh)
        assert any(not torch.equal(weights["whole"][name], fresh[name]) for name in fresh)


def test_rotary_positions_tell_how_far_apart_patches_are_and_go_without_trace():
    reader, processor = new_model()
    tower = new_siglip(reader, processor.tokenizer)[0].vision_model
    query, key = (getattr(tower.encoder.layers[0].self_attn, name) for name in ("q_proj", "k_proj"))
    one = torch.randn(1, query.in_features, generator=torch.Generator().manual_seed(0))
    same = one.expand(1, (SIDE // 16) ** 2, -1)

    def products():
        return (query(same).unflatten(-1, (4, -1))[0, :, 0] @ key(same).unflatten(-1, (4, -1))[0, :, 0].T).detach()

    plain, rotary = products(), Rotary(tower)
    turned, row = products(), SIDE // 16
    torch.testing.assert_close(turned[0, 3 * row + 2], turned[4 * row + 5, 7 * row + 7])
    assert (turned[0, 3 * row + 2] - turned[0, 2 * row + 3]).abs() > 1e-4 and (turned - plain).abs().max() > 1e-3
    rotary.strength = 0.0
    assert torch.equal(products(), plain)
    rotary.close()
    assert torch.equal(products(), plain) and "forward" not in vars(query)


@pytest.mark.slow
def test_a_second_training_takes_over_all_that_the_first_learned(corpus, teacher, tmp_path):
    wide = GeneralPages(tmp_path, 1, splits().general[:12], width=SIDE)
    reader, processor = new_model()

    def trainer(seed, folder):
        model, its_processor = new_siglip(reader, processor.tokenizer, seed)
        recipe = SiglipRecipe(2, 1e-3, sheets=2, pages=4, texts=4, pool=12, turned=0, upright=0, seed=seed)
        return SiglipTrainer(model, its_processor, reader, wide, teacher, recipe, folder)

    first, second = trainer(0, tmp_path / "first"), trainer(1, tmp_path / "second")
    list(first.run())
    assert not torch.equal(first.view, second.view)
    second.take_over(first)
    assert all(torch.equal(parameter, second.parameters[name]) for name, parameter in first.parameters.items())


def test_siglip_loads_with_two_modalities_and_one_vector_for_each(corpus, tmp_path):
    reader, processor = new_model()
    save_vlm(*new_siglip(reader, processor.tokenizer), tmp_path / "siglip")
    model = SentenceTransformer(str(tmp_path / "siglip"), device="cpu", model_kwargs={"dtype": "float32"})
    assert model.modalities == ["text", "image"]
    for content in (Image.fromarray(corpus.images[0]), "exports of Chad"):
        assert model.encode([content]).shape == (1, 192)


def test_the_reranker_is_trained_on_what_the_library_feeds_it(corpus, tmp_path):
    model, processor = new_model()
    save_reranker(model, processor, tmp_path / "reranker")
    library = CrossEncoder(str(tmp_path / "reranker"), device="cpu", model_kwargs={"dtype": "float32"})
    pairs = [("exports of Chad", Image.fromarray(corpus.images[0])), ("exports of Chad", "a page in words")]
    theirs = library.predict(pairs, activation_fn=torch.nn.Identity())

    model = library[0].model  # the same weights, rounded to bfloat16
    trainer = RerankerTrainer(model, processor, corpus, RerankerRecipe(1, 1e-3), tmp_path / "run")
    with torch.no_grad():
        out = model.model.visual(patches(torch.from_numpy(corpus.images[:1])), grid_thw=torch.tensor([[1, 18, 14]]))
        deep = [features[None] for features in out.deepstack_features]
        seen = SimpleNamespace(pooler_output=out.pooler_output[None], deepstack_features=deep)
        contents = ((PAGE, [0]), ("a page in words", []))
        ours = [trainer.score([pair("exports of Chad", content)], seen, pages) for content, pages in contents]
    trainer.close()
    assert np.allclose(theirs, torch.cat(ours).numpy(), atol=1e-3)
