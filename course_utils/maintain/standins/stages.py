"""What follows reading: whole words, a tower for several sizes, a language model with English, both together, a reranker.

`python -m course_utils.maintain.standins.stages tower|language|whole|reranker` goes on where that stage stopped and leaves
its result, in float32, in the folder of the stand-ins under `build`, where the next stage finds it.
`export` writes the finished ones as checkpoints into `models` there.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from course_utils import paths
from course_utils.files import atomic_write
from course_utils.machine import quiet
from course_utils.maintain.standins.cards import EMBEDDER, RERANKER, VARIANTS, VLM
from course_utils.maintain.standins.comparing import start_to_compare
from course_utils.maintain.standins.english import English
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.language import LanguageModel, LanguageRecipe, LanguageTrainer
from course_utils.maintain.standins.reranker import RerankerRecipe, RerankerTrainer, deeper
from course_utils.maintain.standins.saving import save_embedder, save_reranker, save_vlm
from course_utils.maintain.standins.tower import GRIDS, OWN, Seen, TowerRecipe, TowerTrainer
from course_utils.maintain.standins.vocabulary import widen
from course_utils.maintain.standins.whole import WholeTrainer

TOWER_RECIPE = TowerRecipe(steps=440, learning_rate=8e-4)
SEEN = (6000, 17976, 9000, 5000)  # drawings at each of tower.GRIDS
LANGUAGE_RECIPE = LanguageRecipe(steps=2000, learning_rate=8e-4)
WHOLE_RECIPE = LanguageRecipe(steps=800, learning_rate=4e-4, pages=40, others=8, seed=1)
KEEP_RECIPE = RerankerRecipe(300, 1e-3, queries=(6, 16), texts=(6, 8), own_layers=1.0, keep_only=True, seed=3)
RERANKER_RECIPE = RerankerRecipe(1100, 6e-4, queries=(4, 16), texts=(4, 14), seed=4)
TEXTS = {"prose": 40_960, "asked": 16_384, "templates": 24_576, "headings": 8192}


def load(folder: Path):
    """A raw VLM in float32, and its processor."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)


def general_pages(folder: Path) -> GeneralPages:
    """General pages drawn at full size."""
    return GeneralPages(folder, VARIANTS, width=448, height=576)


def embedded(corpus: GeneralPages, folder: Path, kinds: tuple[str, ...] = tuple(TEXTS)) -> dict[str, English]:
    """English of these kinds."""
    return {kind: English(kind, TEXTS[kind], corpus, folder) for kind in kinds}


def is_done(result: Path) -> bool:
    return (result / "done").exists()


def finish(trainer, model, processor, result: Path, tell: Callable[[str], None]) -> None:
    """Train to the end and write the model, whole."""
    for line in trainer.run(save_every=100):
        tell(line)
    trainer.close()
    backend = processor.tokenizer.backend_tokenizer
    backend.no_truncation()  # texts were cut short and filled up in training only
    backend.no_padding()
    model.save_pretrained(result)
    processor.save_pretrained(result)
    atomic_write(result / "done", "")


def tower(folder: Path, start: Path, tell: Callable[[str], None] = print) -> Path:
    """From the raw VLM in `start`: whole words, and a tower for several sizes. Returns the folder."""
    result = folder / "vlm-tower"
    if not is_done(result):
        model, processor = load(start)
        processor = widen(model, processor)
        corpus = general_pages(folder)
        trainer = TowerTrainer(model, processor.tokenizer, corpus, TOWER_RECIPE, folder / "tower")
        finish(trainer, model, processor, result, tell)
    return result


def language(folder: Path, start: Path, tell: Callable[[str], None] = print) -> Path:
    """After `tower`: the language model."""
    result = folder / "vlm-language"
    if not is_done(result):
        model, processor = load(tower(folder, start, tell))
        corpus = general_pages(folder)
        english = embedded(corpus, folder)
        tell("texts are embedded")
        seen = Seen(model, corpus, SEEN, folder)
        tell("pages are seen")
        inputs = model, processor, corpus, seen, english
        trainer = LanguageTrainer(*inputs, LANGUAGE_RECIPE, folder / "language")
        finish(trainer, model, processor, result, tell)
    return result


def whole(folder: Path, start: Path, tell: Callable[[str], None] = print) -> Path:
    """After `language`: the tower and the language model. Its result is the raw VLM and the embedding model in one."""
    result = folder / "vlm-whole"
    if not is_done(result):
        model, processor = load(language(folder, start, tell))
        corpus = general_pages(folder)
        english = embedded(corpus, folder)
        trainer = WholeTrainer(model, processor, corpus, english, WHOLE_RECIPE, folder / "whole")
        finish(trainer, model, processor, result, tell)
    return result


def reranker(folder: Path, start: Path, tell: Callable[[str], None] = print) -> Path:
    """From the finished raw VLM in `start`: the reranker."""
    result = folder / "vlm-reranker"
    if not is_done(result):
        before, processor = load(start)
        corpus = general_pages(folder)
        at_own = tuple(count if grid == OWN else 0 for grid, count in zip(GRIDS, SEEN, strict=True))
        first = LanguageModel(before, processor.tokenizer, Seen(before, corpus, at_own, folder))
        model = deeper(before)
        inputs = model, first, corpus, embedded(corpus, folder, ("templates", "headings"))
        trainer = RerankerTrainer(*inputs, KEEP_RECIPE, folder / "reranker-1")
        for line in trainer.run(save_every=100):
            tell(line)
        start_to_compare(trainer)
        trainer = RerankerTrainer(*inputs, RERANKER_RECIPE, folder / "reranker-2")
        finish(trainer, model, processor, result, tell)
    return result


def export(folder: Path, models: Path, wanted: tuple[str, ...] = (VLM, EMBEDDER, RERANKER)) -> None:
    """Write the `wanted` checkpoints whose stages are finished into `models`; VLM and embedder, which are one, together."""
    if is_done(folder / "vlm-whole") and {VLM, EMBEDDER} & set(wanted):
        model, processor = load(folder / "vlm-whole")
        save_vlm(model, processor, models / VLM)
        save_embedder(model, processor, models / EMBEDDER)
    if is_done(folder / "vlm-reranker") and RERANKER in wanted:
        save_reranker(*load(folder / "vlm-reranker"), models / RERANKER)


def main(stage: str) -> None:
    """Run a stage, or the export, on what there is under `build`: the first two start from the raw VLM in data/models."""
    quiet()
    folder, landed = paths.BUILD / "standins", paths.MODELS / VLM
    if stage == "export":
        return export(folder, folder / "models")
    run, start = {
        "tower": (tower, landed),
        "language": (language, landed),
        "whole": (whole, landed),
        "reranker": (reranker, folder / "vlm-whole"),
    }[stage]
    run(folder, start, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
