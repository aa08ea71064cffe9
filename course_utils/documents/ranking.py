"""Two rankings that lessons 04 and 10 build by hand: BM25, and fusion by reciprocal ranks."""

from collections.abc import Sequence

import bm25s

RANK_SHIFT = 60  # Cormack, Clarke & Büttcher 2009


def bm25(ids: Sequence[str], texts: Sequence[str], queries: Sequence[str], k: int = 10) -> list[list[str]]:
    """For each query the ids of up to k pages that share a word with it, best first; rare words count more.

    ids, texts: of the pages, in the same order. English stop words are left out. No query gives no ranking.
    """
    texts, queries = list(texts), list(queries)
    if not queries or not texts:
        return [[] for _ in queries]
    silent = {"show_progress": False}
    tokens, asked = (
        bm25s.tokenize([text.lower() or "-" for text in part], stopwords="en", **silent) for part in (texts, queries)
    )
    index = bm25s.BM25()
    index.index(tokens, **silent)
    hits, weights = index.retrieve(asked, corpus=list(ids), k=min(k, len(ids)), **silent)
    return [row[weight > 0].tolist() for row, weight in zip(hits, weights, strict=True)]


def fuse(*rankings: Sequence[str]) -> list[str]:
    """Page ids of several rankings of one query, in the order of their sums of 1 / (60 + rank)."""
    sums: dict[str, float] = {}
    for ranking in rankings:
        for rank, page in enumerate(ranking, start=1):
            sums[page] = sums.get(page, 0.0) + 1 / (RANK_SHIFT + rank)
    return sorted(sums, key=lambda page: (-sums[page], page))
