"""One resumable command for the stand-ins: general pages, three training runs, four checkpoints and their cards."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from course_utils import paths
from course_utils.checkpoints import HASHES
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256
from course_utils.machine import quiet
from course_utils.maintain.standins.architecture import new_model
from course_utils.maintain.standins.cards import EMBEDDER, RERANKER, SIGLIP, SIGLIP_VARIANTS, VARIANTS, VLM, write_cards
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.pretrain import Recipe, Trainer
from course_utils.maintain.standins.reranker import NO, YES, RerankerRecipe, RerankerTrainer
from course_utils.maintain.standins.siglip import SIDE, SiglipRecipe, SiglipTrainer, new_siglip
from course_utils.maintain.standins.texts import Teacher

RECIPE = Recipe(strip_steps=1500, sheet_steps=1200, crop_steps=300, page_steps=900, learning_rate=1.2e-3)
SIGLIP_RECIPES = (
    SiglipRecipe(steps=2200, learning_rate=1e-3),
    SiglipRecipe(steps=850, learning_rate=6e-4, pages=30, sheets=2, turned=0, upright=0, seed=7),
)
RERANKER_RECIPE = RerankerRecipe(steps=1200, learning_rate=8e-4)


def save_vlm(model, processor, folder: Path) -> None:
    """Write a model of transformers in bfloat16 with its processor: a raw one has no modules.json."""
    shutil.rmtree(folder, ignore_errors=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_embedder(model, processor, folder: Path) -> None:
    """Write the embedding model: Transformer, last-token Pooling, Normalize."""
    raw = folder.with_name(f".{folder.name}")
    save_vlm(model, processor, raw)
    transformer = Transformer(str(raw), model_kwargs={"dtype": torch.bfloat16})
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    shutil.rmtree(folder, ignore_errors=True)
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save_pretrained(
        str(folder), create_model_card=False
    )
    shutil.rmtree(raw)


def save_reranker(model, processor, folder: Path) -> None:
    """Write the reranker: Transformer that ends with the assistant's turn, and LogitScore of yes against no."""
    raw = folder.with_name(f".{folder.name}")
    save_vlm(model, processor, raw)
    transformer = Transformer(
        str(raw),
        transformer_task="any-to-any",
        model_kwargs={"dtype": torch.bfloat16},
        processing_kwargs={"chat_template": {"add_generation_prompt": True}},
    )
    shutil.rmtree(folder, ignore_errors=True)
    scores = LogitScore(*processor.tokenizer.convert_tokens_to_ids([YES, NO]))
    CrossEncoder(modules=[transformer, scores], device="cpu").save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(raw)


def build(only: tuple[str, ...] = (), cards_only: bool = False, tell: Callable[[str], None] = print) -> None:
    """Train the stand-ins, or those named in `only`, into data/models and seal them; goes on where it stopped.

    SigLIP and the reranker start from the raw VLM in data/models. Raises CourseError for an unknown name.
    """
    known = (VLM, EMBEDDER, SIGLIP, RERANKER)
    if unknown := set(only) - set(known):
        raise CourseError(f"There is no stand-in {sorted(unknown)[0]!r}: name some of {', '.join(known)}.")
    quiet()
    if not cards_only:
        _train_all(only or known, tell)
    write_cards()
    _seal(paths.MODELS)


def _seal(models: Path) -> None:
    """Write down the SHA-256 of every file of every stand-in in `models`."""
    found = {
        folder.name: {
            path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        for folder in sorted(models.iterdir())
        if folder.is_dir()
    }
    atomic_write(models / HASHES, json.dumps(found, indent=1) + "\n")


def _train_all(wanted: tuple[str, ...], tell: Callable[[str], None]) -> None:
    folder = paths.BUILD / "standins"
    corpus = GeneralPages(folder, VARIANTS)
    model, processor = new_model()
    teacher = Teacher(processor.tokenizer, corpus, folder) if set(wanted) - {RERANKER} else None
    if EMBEDDER in wanted or VLM in wanted:
        _train(Trainer(model, processor, corpus, teacher, RECIPE, folder), tell)
        save_vlm(model, processor, paths.MODELS / VLM)
        save_embedder(model, processor, paths.MODELS / EMBEDDER)
    reader, processor = _reader()
    if SIGLIP in wanted:
        model, its_processor = new_siglip(reader, processor.tokenizer)
        pages = GeneralPages(folder, SIGLIP_VARIANTS, width=SIDE)
        trainer = None
        for part, recipe in enumerate(SIGLIP_RECIPES, start=1):
            before, trainer = (
                trainer,
                SiglipTrainer(model, its_processor, reader, pages, teacher, recipe, folder / f"siglip-{part}"),
            )
            if before:
                trainer.take_over(before)
            _train(trainer, tell)
        save_vlm(model, its_processor, paths.MODELS / SIGLIP)
    if RERANKER in wanted:
        _train(RerankerTrainer(reader, processor, corpus, RERANKER_RECIPE, folder / "reranker"), tell)
        save_reranker(reader, processor, paths.MODELS / RERANKER)


def _reader():
    folder = paths.MODELS / VLM
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, AutoProcessor.from_pretrained(folder)


def _train(trainer, tell: Callable[[str], None]) -> None:
    for line in trainer.run():
        tell(line)
    trainer.close()
