# ruff: noqa: E402 (`quiet` comes before the libraries)
"""`make bench`: what the lesson's settings save against the published ones, factor by factor, and how costs grow.

Both finetune the same stand-in on the same rows in the same order (optimizer, batch, learning rate, seed, frozen image
tower) and are scored on the same pages. Three things differ, and each is timed apart from the other two:

- data: seconds from a page's file to the model's features, for pages stored at scan size or at the lesson's size
- training: seconds of a row in the optimizer's steps, features ready, with another mini-batch
- evaluation: seconds of embedding and scoring, features ready: a pass for each dimension, or one pass and slices

What both pay alike and only the published settings pay dearly (NO_DUPLICATES decodes every page once more) is left out.
"""

import hashlib
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from course_utils.machine import quiet

quiet()

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars, load_dataset
from PIL import Image as Pillow
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from sentence_transformers.sentence_transformer.training_args import BatchSamplers, SentenceTransformerTrainingArguments
from transformers import PrinterCallback, TrainerCallback

from course_utils.checkpoints import checkpoint
from course_utils.corpus import Corpus, build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.errors import CourseError
from course_utils.evaluation import per_query_ndcg
from course_utils.profiles import load_profile

P = load_profile("tiny")
TEST_PAGES, DEV_PAGES = 1500, 300  # what lesson 07 embeds before and after, and at each dev evaluation
SCAN_SIZE = (1736, 2232)  # as many pixels as A4 at 200 dpi, in our pages' proportions
PAGES_PER_ROW = 5  # of a dev row: the positive and four negatives
SAME_SCORE = 0.005  # largest difference of the two NDCG@10 that counts as the same target reached


@dataclass(frozen=True)
class Settings:
    """One side of the comparison. `passes`: evaluate with a pass over the pages for each dimension."""

    name: str
    mini_batch: int
    eval_batch: int
    passes: bool
    scanned: bool  # pages are stored at the size of a scan


PUBLISHED = Settings("published", 1, 1, True, True)
LESSON = Settings("lesson", P.mini_batch_size, P.eval_batch_size, False, False)


@dataclass
class Cost:
    """Seconds a page, a row and an evaluation pass over one page; NDCG@10 by dimension; seconds of it all."""

    page: float
    row: float
    evaluation: float
    passes: int
    ndcg: dict[int, float]
    whole: float

    def scaled(self) -> dict[str, float]:
        """Seconds of each factor at the lesson's own amounts; dev evaluations take one dimension in both settings."""
        embedded = 2 * TEST_PAGES * self.passes + P.evaluations * DEV_PAGES
        read = P.train_rows * (1 + P.negatives) + embedded
        return {"data": read * self.page, "training": P.train_rows * self.row, "evaluation": embedded * self.evaluation}


class StepTimer(TrainerCallback):
    """Notes the seconds of each step, optimizer included; a batch is ready before its step begins."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, *args, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, *args, **kwargs):
        self.seconds.append(time.perf_counter() - self.began)


def load_model() -> SentenceTransformer:
    """The profile's stand-in with the lesson's pixel budget, its image tower frozen, on the CPU; warmed up."""
    model = SentenceTransformer(
        checkpoint(P.embedder), device="cpu", model_kwargs={"dtype": P.dtype, "attn_implementation": P.attention}
    )
    model[0].processing_kwargs |= {"image": {"size": P.pixels}}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not re.search(P.frozen, name))
    model.model_card_data.widget = [{}]  # something, or the trainer decodes pages for examples
    model.encode([Pillow.new("RGB", (448, 576))] * 4)
    return model


def as_scanned(row: dict, folder: Path) -> dict:
    """The row with its pages stored in `folder` as scanners do: at SCAN_SIZE, JPEG, quality 88."""
    return {name: value if isinstance(value, str) else _scan(value, folder) for name, value in row.items()}


def _scan(page: Pillow.Image, folder: Path) -> dict:
    page = page.convert("RGB")
    path = folder / f"{hashlib.sha1(page.tobytes()).hexdigest()}.jpg"
    if not path.exists():
        page.resize(SCAN_SIZE, Pillow.Resampling.LANCZOS).save(path, quality=88)
    return {"bytes": None, "path": str(path)}  # a file, or a page would be decoded once for all passes


def train(model: SentenceTransformer, rows: Dataset, mini_batch: int, batch: int = P.batch_size) -> list[float]:
    """Finetune as lesson 07 does and return the seconds of each step."""
    timer = StepTimer()
    loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch)
    with tempfile.TemporaryDirectory() as folder:
        args = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            learning_rate=P.learning_rate,
            learning_rate_mapping=P.word_rates,
            warmup_steps=P.warmup,
            lr_scheduler_type="linear",
            seed=0,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            report_to="none",
            use_cpu=True,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=args,
            train_dataset=rows,
            callbacks=[timer],
            loss=MatryoshkaLoss(model, loss, matryoshka_dims=list(P.dimensions)),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return timer.seconds


def evaluate(
    model: SentenceTransformer, corpus: Corpus, batch: int, passes: bool
) -> tuple[dict[int, float], float, float]:
    """NDCG@10 by dimension, seconds from files to features, and all other seconds."""
    reading, preprocess = 0.0, model.preprocess

    def timed(*args, **kwargs):
        nonlocal reading
        began = time.perf_counter()
        features = preprocess(*args, **kwargs)
        reading += time.perf_counter() - began
        return features

    def embed(dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
        options = {"batch_size": batch, "convert_to_tensor": True, "truncate_dim": dimension}
        model.preprocess = preprocess
        queries = model.encode_query(list(corpus.queries.values()), **options)
        model.preprocess = timed  # the pages only
        return queries, model.encode_document(list(corpus.corpus.values()), **options)

    began, scores = time.perf_counter(), {}
    for dimension in P.dimensions:
        if passes or not scores:
            queries, pages = embed(dimension)
        cut = slice(None, dimension)
        ids = list(corpus.queries), list(corpus.corpus)
        scores[dimension] = float(np.mean(per_query_ndcg(queries[:, cut], pages[:, cut], *ids, corpus.relevant)))
    model.preprocess = preprocess
    return scores, reading, time.perf_counter() - began - reading


def measure(settings: Settings, rows: Dataset, dev: Dataset) -> Cost:
    """Train and evaluate with these settings; storing the pages at their size is not timed, it is done once."""
    with tempfile.TemporaryDirectory() as folder:
        if settings.scanned:
            options = {"fn_kwargs": {"folder": Path(folder)}, "keep_in_memory": True}
            rows, dev = (data.map(as_scanned, features=data.features, **options) for data in (rows, dev))
        corpus, model = build_corpus(dev), load_model()
        began = time.perf_counter()
        steps = train(model, rows, settings.mini_batch)
        ndcg, reading, rest = evaluate(model, corpus, settings.eval_batch, settings.passes)
        whole = time.perf_counter() - began
    step = min(steps[: max(1, len(rows) // P.batch_size)])  # the fastest full one: least disturbed by other programs
    passes = len(P.dimensions) if settings.passes else 1
    embedded = passes * len(corpus.corpus)
    return Cost(reading / embedded, step / min(len(rows), P.batch_size), rest / embedded, passes, ndcg, whole)


def growth(train_data: Dataset, dev_data: Dataset, pages: int) -> dict[str, list[float]]:
    """Seconds of data, training and evaluation with the lesson's settings at `pages` pages and ten times as many."""
    model, found = load_model(), {"data": [], "training": [], "evaluation": []}
    rows = max(1, pages // (1 + P.negatives))  # the rows of a step, so that it is one step and ten
    train(load_model(), train_data.select(range(rows)), LESSON.mini_batch, rows)  # warms up
    for times in (1, 10):
        corpus = build_corpus(dev_data.select(range(-(-times * pages // PAGES_PER_ROW))))
        corpus = Corpus(corpus.queries, dict(list(corpus.corpus.items())[: times * pages]), corpus.relevant)
        _, reading, rest = evaluate(model, corpus, min(pages, LESSON.eval_batch), LESSON.passes)
        found["data"].append(reading)
        found["evaluation"].append(rest)
        steps = train(load_model(), train_data.select(range(times * rows)), LESSON.mini_batch, rows)
        found["training"].append(sum(steps))
    return found


def bench(rows: int, pages: int, small: int, say: Callable[[str], None]) -> None:
    """Measure both settings and the growth, and say all figures. Raises CourseError below 2 rows or pages."""
    if min(rows, pages, small) < 2:
        raise CourseError("The benchmark needs at least 2 rows and 2 pages: give larger amounts.")
    disable_progress_bars()
    dataset = prepare_dataset(P)
    chosen = ["query", "image", *(f"negative_{k}" for k in range(P.negatives))]
    train_data = load_dataset(dataset, "train", split=P.train_split).shuffle(seed=0).select_columns(chosen)
    dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
    if rows > len(train_data) or max(pages, 10 * small) > PAGES_PER_ROW * len(dev_data):
        raise CourseError(
            f"There are {len(train_data)} rows and {PAGES_PER_ROW * len(dev_data)} dev pages: give smaller amounts."
        )
    dev = dev_data.select(range(-(-pages // PAGES_PER_ROW)))
    embedded = len(build_corpus(dev).corpus)
    say(f"{rows} training rows, batch {P.batch_size}; {len(dev)} dev queries over {embedded} pages")
    a, b = (measure(side, train_data.select(range(rows)), dev) for side in (PUBLISHED, LESSON))

    size = P.dimensions[0]
    difference = abs(a.ndcg[size] - b.ndcg[size])
    say(f"dev NDCG@10: published {a.ndcg[size]:.4f}, lesson {b.ndcg[size]:.4f}, difference {difference:.4f}")
    if difference > SAME_SCORE:
        say(f"Not the same score (limit {SAME_SCORE}): resizing changes pixels, and few queries move in steps.")

    def line(name: str, before: float, after: float, unit: str) -> None:
        say(f"{name:<12}{before:>11.4g}{after:>11.4g}  {before / after:>5.1f}x  {unit}")

    say(f"\n{'factor':<12}{'published':>11}{'lesson':>11}   ratio  unit")
    line("data", a.page, b.page, f"s a page, from disk to features (stored {'x'.join(map(str, SCAN_SIZE))} or 448x576)")
    line("training", a.row, b.row, f"s a row (mini-batch 1 or {LESSON.mini_batch})")
    unit = f"s a page, {len(P.dimensions)} dimensions (batch 1, {a.passes} passes, or {LESSON.eval_batch}, once)"
    line("evaluation", a.evaluation * a.passes, b.evaluation * b.passes, unit)
    line("this run", a.whole, b.whole, "s, all of it as measured")

    before, after = a.scaled(), b.scaled()
    say(
        f"\nScaled in proportion to lesson 07: {P.train_rows} rows trained, {TEST_PAGES} test pages evaluated before and after,"
        f" {P.evaluations} dev evaluations of {DEV_PAGES} pages"
    )
    for name in before:
        line(name, before[name], after[name], "s")
    line("total", sum(before.values()), sum(after.values()), "s")

    say(f"\nAs pages grow tenfold (lesson's settings, {small} and {10 * small} pages)")
    for name, (few, many) in growth(train_data, dev_data, small).items():
        say(f"{name:<12}{few:>9.3g} s{many:>9.3g} s  {many / few:>5.1f} times")
    say(f"\nratio {sum(before.values()) / sum(after.values()):.1f}x")
