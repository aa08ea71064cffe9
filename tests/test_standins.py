"""The stand-ins: made resumably, sealed by hash, and of the published classes."""

import itertools
import random
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer

from course_utils import checkpoints, paths
from course_utils.errors import CourseError
from course_utils.maintain.standins import english, pictures
from course_utils.maintain.standins.architecture import new_model
from course_utils.maintain.standins.comparing import start_to_compare
from course_utils.maintain.standins.english import English
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.language import LanguageModel, LanguageRecipe, LanguageTrainer
from course_utils.maintain.standins.pretrain import Recipe, Trainer, flat_patches, patches
from course_utils.maintain.standins.reranker import PAGE, RerankerRecipe, RerankerTrainer, deeper, pair
from course_utils.maintain.standins.saving import save_reranker, save_vlm
from course_utils.maintain.standins.siglip import SIDE, Rotary, SiglipRecipe, SiglipTrainer, new_siglip
from course_utils.maintain.standins.texts import FUNCTION_WORDS, LookAlikes, Teacher, heading, plain_words
from course_utils.maintain.standins.tower import GRIDS, OWN, Seen, TowerRecipe, TowerTrainer
from course_utils.maintain.standins.vocabulary import widen
from course_utils.maintain.standins.whole import WholeTrainer
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


def looked_at(model, corpus, size=1):
    """What stands in for `Seen`: each drawing at its own size, unmoved, whatever size is asked for."""
    rows, columns = OWN
    model.model.visual.patch_embed.forward = flat_patches.__get__(model.model.visual.patch_embed)
    with torch.no_grad():
        out = model.model.visual(
            patches(torch.from_numpy(np.asarray(corpus.images))),
            grid_thw=torch.tensor([[1, 2 * rows, 2 * columns]] * len(corpus.pages)),
        )
    del model.model.visual.patch_embed.forward
    layers = [layer.unflatten(0, (-1, rows * columns)) for layer in (out.pooler_output, *out.deepstack_features)]
    counts = (0,) * size + (len(corpus.pages),) + (0,) * (len(GRIDS) - 1 - size)

    def at(chosen, _):
        return SimpleNamespace(pooler_output=layers[0][chosen], deepstack_features=[x[chosen] for x in layers[1:]])

    return SimpleNamespace(counts=counts, at=at)


def some_english(corpus):
    """Eight texts of each kind, and the headings, with vectors by chance in place of the teacher's."""
    texts = {
        kind: [f"{kind} {word}" for word in ["rain", "snow", "wind", "sun", "hail", "fog", "ice", "storm"]]
        for kind in ("prose", "templates", "asked")
    } | {"headings": sorted({heading(page) for page in corpus.pages})}
    generator = torch.Generator().manual_seed(0)
    return {
        kind: SimpleNamespace(texts=found, vectors=torch.randn(len(found), 384, generator=generator).half())
        for kind, found in texts.items()
    }


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


def test_the_teacher_never_says_a_word_of_the_unseen_or_natural_wordings(corpus, teacher):
    words = plain_words(new_model()[1].tokenizer)
    phrases = " ".join(p for kinds in wordings().values() for kind in ("unseen", "natural") for p in kinds[kind])
    kept = set(phrases.lower().split()) - FUNCTION_WORDS
    assert len(words) > 5000 and not kept & set(words) and "longe" not in {word[:5] for word in words}
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
@pytest.mark.parametrize("kind", ["siglip", "tower", "language", "whole", "reranker"])
def test_a_training_stopped_and_resumed_is_the_same_as_in_one_go(corpus, teacher, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("course_utils.maintain.standins.language.SIZES", (GRIDS.index(OWN),))

    def make(folder):
        model, processor = new_model()
        inputs = model, processor, corpus
        if kind == "tower":
            recipe = TowerRecipe(3, 1e-3, pages=2, sheets=2, pool=12)
            return model, TowerTrainer(model, processor.tokenizer, corpus, recipe, folder)
        if kind == "language":
            recipe = LanguageRecipe(3, 1e-3, pages=4, others=2, texts=(("prose", 3), ("asked", 2)))
            return model, LanguageTrainer(*inputs, looked_at(model, corpus), some_english(corpus), recipe, folder)
        if kind == "whole":
            recipe = LanguageRecipe(3, 1e-3, pages=4, others=2, texts=(("prose", 3), ("asked", 2)))
            return model, WholeTrainer(*inputs, some_english(corpus), recipe, folder)
        if kind == "reranker":
            recipe = RerankerRecipe(3, 1e-3, queries=(1, 3), texts=(1, 2), depth=5)
            first = LanguageModel(model, processor.tokenizer, looked_at(model, corpus))
            deep = deeper(model)
            return deep, RerankerTrainer(deep, first, corpus, some_english(corpus), recipe, folder)
        wide = GeneralPages(tmp_path, 1, splits().general[:12], width=SIDE)
        siglip, its_processor = new_siglip(model, processor.tokenizer)
        recipe = SiglipRecipe(3, 1e-3, sheets=2, pages=4, texts=4, pool=12)
        return siglip, SiglipTrainer(siglip, its_processor, model, wide, teacher, recipe, folder)

    weights = {}
    for way, ends in {"whole": [3], "parts": [1, 3]}.items():
        for stop in ends:
            model, trainer = make(tmp_path / way)
            list(trainer.run(stop_at=stop, save_every=1))
            trainer.close()
        weights[way] = model.state_dict()
    fresh = make(tmp_path / "fresh")[0].state_dict()
    assert all(torch.equal(weights["whole"][name], weights["parts"][name]) for name in fresh)
    assert any(not torch.equal(weights["whole"][name], fresh[name]) for name in fresh)


def test_whole_words_are_the_teachers_and_what_was_known_stays(tmp_path):
    model, processor = new_model()
    before, known = model.get_input_embeddings().weight.detach().clone(), processor.tokenizer.get_vocab()
    wide = widen(model, processor)
    table = model.get_input_embeddings().weight
    theirs = Tokenizer.from_file(str(checkpoints.minilm_folder() / "tokenizer.json"))
    theirs.no_padding()
    text = "the recession, its inequality and a centenarian's longevity"
    assert wide.tokenizer.tokenize(text) == theirs.encode(text, add_special_tokens=False).tokens
    assert known.items() <= wide.tokenizer.get_vocab().items() and len(wide.tokenizer) == len(table) > 2 * len(known)
    assert torch.equal(table[: len(before)], before) and model.lm_head.weight is table
    assert table[len(before) :].std().item() == pytest.approx(before.std().item(), rel=0.3)
    assert widen(model, wide) is wide


def test_no_templated_text_has_a_word_of_an_unseen_wording(corpus, tmp_path, monkeypatch):
    kept = sorted({word for kinds in wordings().values() for phrase in kinds["unseen"] for word in phrase.split()})
    known = ([*kept, "rain"], [f"much {word}" for word in kept] + ["much snow"])
    monkeypatch.setattr(english, "wordnet", lambda folder: known)
    made = itertools.islice(english._templates(corpus, tmp_path, random.Random(0)), 300)
    texts = [text.split() for text in made]
    assert len(kept) > 60 and any("rain" in words for words in texts) and any("snow" in words for words in texts)
    assert not any(word in words for words in texts for word in set(kept) - FUNCTION_WORDS)


def test_texts_are_embedded_once_and_more_of_them_go_on(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(english, "BLOCK", 8)
    few = English("asked", 16, corpus, tmp_path)
    monkeypatch.setattr(english, "_minilm", lambda: pytest.fail("embedded twice"))
    again = English("asked", 16, corpus, tmp_path)
    assert again.texts == few.texts and torch.equal(again.vectors, few.vectors) and few.vectors.shape == (16, 384)
    monkeypatch.undo()
    assert English("asked", 20, corpus, tmp_path).texts[:16] == few.texts


def test_what_the_tower_saw_is_what_it_sees_and_more_pages_go_on(corpus, tmp_path):
    model = new_model()[0].eval()
    counts = (2, 4, 2, 2)
    few = Seen(model, corpus, counts, tmp_path, batch=3)
    more = Seen(model, corpus, tuple(2 * n for n in counts), tmp_path, batch=3)
    once = Seen(model, corpus, tuple(2 * n for n in counts), tmp_path / "once", batch=3)
    for size, (rows, columns) in enumerate(GRIDS):
        chosen = list(range(2 * counts[size]))
        found = more.at(chosen, size)
        assert found.pooler_output.shape == (len(chosen), rows * columns, 192)
        torch.testing.assert_close(found.pooler_output, once.at(chosen, size).pooler_output)
        torch.testing.assert_close(
            found.pooler_output[: counts[size]], few.at(chosen[: counts[size]], size).pooler_output
        )


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


@pytest.fixture
def reranking(corpus, tmp_path):
    """A trainer of a reranker whose layers are all by chance, and its processor."""
    model, processor = new_model()
    first = LanguageModel(model, processor.tokenizer, looked_at(model, corpus))
    recipe = RerankerRecipe(1, 1e-3, queries=(1, 1), texts=(1, 1), depth=8)
    return RerankerTrainer(deeper(model), first, corpus, some_english(corpus), recipe, tmp_path / "run"), processor


def test_the_reranker_is_trained_on_what_the_library_feeds_it(reranking, corpus, tmp_path):
    trainer, processor = reranking
    trainer.model.to(torch.bfloat16).float()  # the weights that are saved
    save_reranker(trainer.model, processor, tmp_path / "reranker")
    library = CrossEncoder(str(tmp_path / "reranker"), device="cpu", model_kwargs={"dtype": "float32"})
    pairs = [("exports of Chad", Image.fromarray(corpus.images[0])), ("exports of Chad", "a page in words")]
    theirs = library.predict(pairs, activation_fn=torch.nn.Identity())
    trainer.first.seen = looked_at(trainer.model, corpus)  # rounded, too
    trainer.seen = trainer.first.seen
    with torch.no_grad():
        states = [
            trainer.read([pair("exports of Chad", PAGE)], [0])[0],
            trainer.read([pair("exports of Chad", "a page in words")], [])[0],
        ]
        ours = trainer.score(torch.cat(states))
    assert np.allclose(theirs, ours.numpy(), atol=1e-3)


def test_a_reranker_starts_as_the_dot_product_of_query_and_document(reranking, corpus):
    trainer, _ = reranking
    start_to_compare(trainer, batches=3, queries=12)
    rng = random.Random(0)
    both = [pair(trainer.asked(k, rng), PAGE) for k in range(12) for _ in range(4)]
    with torch.no_grad():
        last, halfway = trainer.read(both, [rng.randrange(12) for _ in both])
        scores, ends = trainer.score(last), halfway.at_ends() * trainer.gain
        ends = torch.nn.functional.normalize(ends, dim=2)
        ends = ends - ends.mean((0, 1))
    cosines = ends.prod(1).sum(1)
    assert torch.corrcoef(torch.stack([scores, cosines]))[0, 1] > 0.7


def test_a_deeper_model_is_the_same_function_until_its_new_layers_learn():
    model, processor = new_model()
    deep = deeper(model, 2)
    inputs = processor.tokenizer(["exports of Chad"], return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        states = [m.model(**inputs).last_hidden_state for m in (model, deep)]
    assert torch.allclose(*states, atol=1e-6)
    assert deep.config.text_config.num_hidden_layers == model.config.text_config.num_hidden_layers + 2
    assert deep.lm_head.weight is deep.get_input_embeddings().weight
    deep.model(**inputs).last_hidden_state.sum().backward()
    assert deep.model.language_model.layers[-1].mlp.down_proj.weight.grad.abs().max() > 0
