"""The engine of a profile: the test pages, lesson 07's vectors, and models that load when they are first asked."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import load_dataset
from sentence_transformers import CrossEncoder, SentenceTransformer

from course_utils import paths
from course_utils.baselines import ocr_texts
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import page_table, prepare_dataset
from course_utils.finetuned import finetuned
from course_utils.machine import device
from course_utils.profiles import Profile
from course_utils.search.engine import Embed, Engine

WEIGHT = 0.97  # of the shipped reranker's logit beside 20 times the cosine, as lesson 10 fits it on dev queries


def load_engine(
    profile: Profile, folder: Path | None = None, weight: float = WEIGHT, text_vectors: np.ndarray | None = None
) -> Engine:
    """Everything that `course serve` searches with; the index goes to `folder`, else to build/search/<profile>.

    text_vectors: unit vectors of `page_texts`, in its order, if they are there already.

    The models "before" (the base) and "after" (of lesson 07) share the pages. Without lesson 07's model, "after" knows
    the queries of the data set, whose vectors come with the course. Fusion needs pages that are drawn here, since only
    they have text.
    """
    dataset = prepare_dataset(profile)
    corpus = build_corpus(load_dataset(dataset, "eval", split="train"))
    found = finetuned(profile)
    row = {page: k for k, page in enumerate(found.page_ids)}
    order = [row[page] for page in corpus.corpus]
    embed = {"before": asker(lazy_model(profile, profile.embedder))}
    known: dict[str, dict[str, np.ndarray]] = {}
    if found.model:
        embed["after"] = asker(lazy_model(profile, found.model))
    else:
        known["after"] = dict(zip(corpus.queries.values(), found.queries_after.numpy(), strict=True))
    titles, texts = {}, None
    if profile.drawn:
        table = page_table(profile).loc[list(corpus.corpus)]
        titles = {page: f"{line.country}: {line.topic}" for page, line in table.iterrows()}
        texts = _texts(profile, page_texts(profile), text_vectors)
    return Engine(
        folder=Path(folder or paths.BUILD / "search" / profile.name),
        corpus=corpus,
        pages={"before": found.pages_before.numpy()[order], "after": found.pages_after.numpy()[order]},
        embed=embed,
        known=known,
        texts=texts,
        judge=_judge(profile),
        weight=weight,
        titles=titles,
        examples=list(corpus.queries.values()),
    )


def page_texts(profile: Profile) -> pd.Series:
    """What OCR read on the test pages (lesson 04), by page id; pages on which it read nothing are left out."""
    texts = pd.Series(ocr_texts()).reindex(page_table(profile).query("split == 'test'").index)
    return texts[texts.fillna("").str.strip() != ""]


def lazy_model(profile: Profile, name: str) -> Callable[[], SentenceTransformer]:
    """What loads a model, by its folder or a checkpoint's name, when it is first called; it sees the profile's pixels."""

    folder = name if Path(name).is_dir() else checkpoint(name)

    @cache
    def model() -> SentenceTransformer:
        kwargs = {"dtype": profile.dtype, "attn_implementation": profile.attention}
        loaded = SentenceTransformer(folder, device=device(), model_kwargs=kwargs)
        loaded[0].processing_kwargs = loaded[0].processing_kwargs | {"image": {"size": profile.pixels}}
        return loaded

    return model


def asker(model: Callable[[], SentenceTransformer]) -> Embed:
    """What embeds words as a query, and an image, or a list of them, as pages."""

    def ask(query) -> np.ndarray:
        encode = model().encode_query if isinstance(query, str) else model().encode_document
        return encode(query, convert_to_tensor=True).float().cpu().numpy()

    return ask


def _texts(profile: Profile, texts, vectors: np.ndarray | None) -> tuple[list[str], np.ndarray, Embed]:
    """Ids and vectors of the texts (a series by page id), and what embeds a query for them: the small text model."""
    model = SentenceTransformer(checkpoint(profile.text_tower), device=device())
    if vectors is None:
        vectors = model.encode(texts.tolist(), normalize_embeddings=True, batch_size=64)
    return list(texts.index), vectors, model.encode


def _judge(profile: Profile):
    """Logits of the reranker that comes with the course, or of the published one."""

    @cache
    def model() -> CrossEncoder:
        kwargs = {"dtype": profile.dtype, "attn_implementation": profile.attention}
        loaded = CrossEncoder(checkpoint(profile.reranker), device=device(), model_kwargs=kwargs)
        loaded[0].processing_kwargs = loaded[0].processing_kwargs | {"image": {"size": profile.pixels}}
        return loaded

    def judge(query: str, pages: list) -> np.ndarray:
        pairs = [(query, page) for page in pages]
        return model().predict(pairs, activation_fn=torch.nn.Identity(), batch_size=profile.eval_batch_size)

    return judge
