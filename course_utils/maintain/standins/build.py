"""One resumable command for the stand-ins: general pages, training runs, four checkpoints and their cards."""

import json
from collections.abc import Callable
from pathlib import Path

from course_utils import paths
from course_utils.checkpoints import HASHES
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256
from course_utils.machine import quiet
from course_utils.maintain.standins import stages
from course_utils.maintain.standins.architecture import new_model
from course_utils.maintain.standins.cards import EMBEDDER, RERANKER, SIGLIP, VARIANTS, VLM, write_cards
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.pretrain import Recipe, Trainer
from course_utils.maintain.standins.saving import save_vlm
from course_utils.maintain.standins.siglip import SIDE, SiglipRecipe, SiglipTrainer, new_siglip
from course_utils.maintain.standins.texts import Teacher

RECIPE = Recipe(strip_steps=1500, sheet_steps=1200, crop_steps=300, page_steps=900, learning_rate=1.2e-3)
SIGLIP_RECIPES = (
    SiglipRecipe(steps=2200, learning_rate=1e-3),
    SiglipRecipe(steps=850, learning_rate=6e-4, pages=30, sheets=2, turned=0, upright=0, seed=7),
    SiglipRecipe(steps=1450, learning_rate=6e-4, sheets=6, turned=0, upright=0, seed=8),
)


def build(only: tuple[str, ...] = (), cards_only: bool = False, tell: Callable[[str], None] = print) -> None:
    """Train the stand-ins, or those named in `only`, into data/models and seal them; goes on after a stop.

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
    whole = folder / "vlm-whole"
    if (EMBEDDER in wanted or VLM in wanted) and not stages.is_done(whole):
        stages.whole(folder, _reading(folder, tell), tell)
    if RERANKER in wanted:
        stages.reranker(folder, whole if stages.is_done(whole) else paths.MODELS / VLM, tell)
    stages.export(folder, paths.MODELS, wanted)
    if SIGLIP in wanted:
        _siglip(folder, tell)


def _reading(folder: Path, tell: Callable[[str], None]) -> Path:
    """The folder of a raw VLM that was made from nothing and has learned to read at one size."""
    result = folder / "vlm-reading"
    if not stages.is_done(result):
        model, processor = new_model()
        corpus = GeneralPages(folder, VARIANTS)
        teacher = Teacher(processor.tokenizer, corpus, folder)
        trainer = Trainer(model, processor, corpus, teacher, RECIPE, folder)
        stages.finish(trainer, model, processor, result, tell)
    return result


def _siglip(folder: Path, tell: Callable[[str], None]) -> None:
    reader, processor = stages.load(paths.MODELS / VLM)
    model, its_processor = new_siglip(reader, processor.tokenizer)
    pages = GeneralPages(folder, VARIANTS, width=SIDE)
    teacher, trainer = Teacher(its_processor.tokenizer, pages, folder), None
    for part, recipe in enumerate(SIGLIP_RECIPES, start=1):
        before = trainer
        place = folder / f"siglip-{part}"
        trainer = SiglipTrainer(model, its_processor, reader, pages, teacher, recipe, place)
        if before:
            trainer.take_over(before)
        for line in trainer.run():
            tell(line)
        trainer.close()
    save_vlm(model, its_processor, paths.MODELS / SIGLIP)
