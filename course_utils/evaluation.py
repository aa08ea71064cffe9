"""Scores per query, their intervals, and what a reader who knows too little would score.

Everything is NumPy on the CPU; embeddings may be NumPy arrays or torch tensors of any dtype.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256 as digest
from pathlib import Path

import numpy as np

from course_utils.errors import CourseError
from course_utils.files import sha256

SCORE_BYTES = 64 * 2**20  # similarities held at once
RESAMPLE_BYTES = 64 * 2**20  # resampled indices and scores held at once


# --- NDCG ---------------------------------------------------------------------------------------


def discounts(k: int) -> np.ndarray:
    """Weight of ranks 1 to k, shape (k,): 1 / log2(rank + 1)."""
    return 1.0 / np.log2(np.arange(2, k + 2))


def ndcg_at_k(ranked_ids: Sequence[str], relevant: set[str], k: int = 10) -> float:
    """NDCG@k of one ranking, in [0, 1]; a page is relevant or it is not.

    The gains of the first k pages, each times 1 / log2(rank + 1), over the same sum for a perfect
    ranking (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with the
    discount that is usual today). Equal to `InformationRetrievalEvaluator`: relevant pages that are
    missing from the corpus still count in the perfect ranking.

    Raises CourseError if nothing is relevant: such a query has no NDCG.
    """
    if not relevant:
        raise CourseError("A query without a relevant page has no NDCG: leave it out, or add its judgement.")
    gains = np.array([page in relevant for page in ranked_ids[:k]], dtype=float)
    ideal = discounts(min(k, len(relevant))).sum()
    return float((gains * discounts(len(gains))).sum() / ideal)


def rankings(query_embeddings, page_embeddings, page_ids: Sequence[str], k: int = 10) -> list[list[str]]:
    """Ids of the k most similar pages of each query, best first.

    query_embeddings (q, d), page_embeddings (n, d), page_ids n; similarity is the cosine, ties go to
    the smaller id as in `InformationRetrievalEvaluator`. Works through the queries in chunks.
    """
    queries, pages = _unit_rows(query_embeddings), _unit_rows(page_embeddings)
    if len(pages) != len(page_ids) or len(set(page_ids)) != len(page_ids):
        raise CourseError(
            f"{len(pages)} page embeddings need as many distinct page ids, there are "
            f"{len(set(page_ids))}: deduplicate the pages before embedding them."
        )
    if queries.shape[1] != pages.shape[1]:
        raise CourseError(
            f"Queries have {queries.shape[1]} dimensions and pages {pages.shape[1]}: "
            "embed both with the same model and truncate both alike."
        )
    by_id = np.argsort(np.asarray(page_ids), kind="stable")
    pages, ids = pages[by_id], [page_ids[i] for i in by_id]
    chunk = max(1, SCORE_BYTES // (12 * len(ids)))  # a float32 score and an int64 index for each page
    ranked = []
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ pages.T
        top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        ranked += [[ids[i] for i in row] for row in top]
    return ranked


def per_query_ndcg(
    query_embeddings,
    page_embeddings,
    query_ids: Sequence[str],
    page_ids: Sequence[str],
    relevant: Mapping[str, set[str]],
    k: int = 10,
) -> np.ndarray:
    """NDCG@k of each query, shape (q,), in the order of `query_ids`.

    query_embeddings (q, d), page_embeddings (n, d); `relevant` maps a query id to its relevant page ids.
    Its mean is the `cosine_ndcg@k` of `InformationRetrievalEvaluator` on the same embeddings.
    """
    if len(query_embeddings) != len(query_ids):
        raise CourseError(f"{len(query_embeddings)} query embeddings need as many ids, there are {len(query_ids)}.")
    ranked = rankings(query_embeddings, page_embeddings, page_ids, k)
    return np.array([ndcg_at_k(row, _judged(relevant, query), k) for query, row in zip(query_ids, ranked)])


def _judged(relevant: Mapping[str, set[str]], query: str) -> set[str]:
    if not relevant.get(query):
        raise CourseError(f"Query {query!r} has no relevant page: leave it out, or add its judgement.")
    return relevant[query]


def _unit_rows(embeddings) -> np.ndarray:
    """Rows of length one, float32 (n, d), from an array or a torch tensor."""
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().float().cpu().numpy()
    rows = np.asarray(embeddings, dtype=np.float32)
    if rows.ndim != 2 or len(rows) == 0:
        raise CourseError(f"Embeddings need the shape (number, dimensions), these have {rows.shape}.")
    if not np.isfinite(rows).all():
        raise CourseError("Some embeddings are not finite: look at the loss, and lower the learning rate.")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


# --- Intervals ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate, its 95% interval, and the number of queries that it stands on."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}], n={self.n}"


def bootstrap(scores, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of per-query scores (q,) with a 95% percentile bootstrap interval (Efron & Tibshirani 1993).

    The interval says how far the mean moves with other queries of the same kind; it says nothing
    about another training seed.
    """
    scores = _scores(scores)
    means = _resampled_means(scores[:, None], seed, resamples)[:, 0]
    return _interval(scores.mean(), means, len(scores))


def paired_bootstrap(before, after, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of after - before with its interval; both (q,), of the same queries in the same order.

    Each resample draws the same queries for both, so what makes a query hard for both cancels out.
    """
    before, after = _pair(before, after)
    return bootstrap(after - before, seed, resamples)


def error_cut(before, after, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Share of the error that is gone, 1 - (1 - after) / (1 - before), with a paired bootstrap interval.

    before, after: scores in [0, 1] of the same queries, shape (q,). 0.6 means that 60% of the distance
    to a perfect score was covered; negative means that it grew. Resamples in which `before` is perfect
    have no such share and are left out.
    """
    before, after = _pair(before, after)
    if before.mean() >= 1:
        raise CourseError("The first scores are perfect, so there is no error to cut: compare the means instead.")
    errors = _resampled_means(1 - np.stack([before, after], axis=1), seed, resamples)
    errors = errors[errors[:, 0] > 1e-12]
    estimate = 1 - (1 - after.mean()) / (1 - before.mean())
    return _interval(estimate, 1 - errors[:, 1] / errors[:, 0], len(before))


def by_slice(
    scores, slices: Mapping[str, Sequence[bool]], seed: int = 0, resamples: int = 10_000
) -> dict[str, Interval]:
    """Interval of each named slice; a slice is a boolean mask (q,) over the scores (q,)."""
    scores = _scores(scores)
    intervals = {}
    for name, mask in slices.items():
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != scores.shape:
            raise CourseError(f"Slice {name!r} needs one True or False for each of the {len(scores)} scores.")
        if not mask.any():
            raise CourseError(f"Slice {name!r} holds no query: leave it out, or take more queries.")
        intervals[name] = bootstrap(scores[mask], seed, resamples)
    return intervals


def _resampled_means(columns: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Means (resamples, m) of columns (q, m) over queries drawn with replacement."""
    rng = np.random.default_rng(seed)
    queries, width = columns.shape
    chunk = max(1, RESAMPLE_BYTES // (8 * queries * (1 + width)))
    means = [
        columns[rng.integers(0, queries, size=(min(chunk, resamples - start), queries))].mean(axis=1)
        for start in range(0, resamples, chunk)
    ]
    return np.concatenate(means)


def _interval(estimate: float, means: np.ndarray, queries: int) -> Interval:
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(estimate), float(low), float(high), queries)


def _scores(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise CourseError(f"An interval needs one finite score for each query; these have the shape {scores.shape}.")
    return scores


def _pair(before, after) -> tuple[np.ndarray, np.ndarray]:
    before, after = _scores(before), _scores(after)
    if before.shape != after.shape:
        raise CourseError(
            f"There are {len(before)} scores before and {len(after)} after: score the same queries in the same order."
        )
    return before, after


# --- The same page twice ------------------------------------------------------------------------


def deduplicate_by_content(contents: Iterable, ids: Iterable[str]) -> dict[str, str]:
    """Map of each page id to the first id with the same content; order is kept.

    A content is a file path (its bytes are hashed), bytes, a PIL image (its pixels are hashed), or a
    hexadecimal hash of 16 digits or more. `set(result.values())` are the pages to embed.
    """
    keys: dict[str, str] = {}
    for content, page in zip(contents, ids, strict=True):
        key = _content_key(content)
        if keys.setdefault(page, key) != key:
            raise CourseError(f"Page id {page!r} names two different pages: give each page an id of its own.")
    first: dict[str, str] = {}
    return {page: first.setdefault(key, page) for page, key in keys.items()}


def merge_judgements(relevant: Mapping[str, Iterable[str]], canonical: Mapping[str, str]) -> dict[str, set[str]]:
    """Judgements in canonical page ids, so that a page which is there twice counts once.

    Without this, a perfect model that puts both copies on top is punished for the copy that nobody judged.
    """
    unknown = {page for pages in relevant.values() for page in pages} - set(canonical)
    if unknown:
        raise CourseError(f"Judged page {min(unknown)!r} is not among the pages: deduplicate the whole corpus at once.")
    return {query: {canonical[page] for page in pages} for query, pages in relevant.items()}


def _content_key(content) -> str:
    if isinstance(content, bytes):
        return digest(content).hexdigest()
    if hasattr(content, "tobytes") and hasattr(content, "mode"):
        return digest(f"{content.mode}{content.size}".encode() + content.tobytes()).hexdigest()
    if isinstance(content, (str, Path)) and Path(content).is_file():
        return sha256(Path(content))
    if isinstance(content, str) and re.fullmatch(r"[0-9a-fA-F]{16,}", content):
        return content.lower()
    raise CourseError(
        f"{str(content)[:80]!r} is neither an image, a page that exists, nor a hash: build the pages first."
    )


# --- What a reader who knows too little would score ---------------------------------------------


def expected_ndcg(candidates: int, found: int, relevant: int, pages: int, k: int = 10) -> float:
    """Expected NDCG@k of a reader who ranks some candidates first, in random order, and the rest after.

    candidates: pages ranked first, `found` of them relevant; relevant: relevant pages in all; pages: size
    of the corpus. Exact: a rank among the candidates is relevant with probability found / candidates, one
    after them with (relevant - found) / (pages - candidates), and expectations add up.
    """
    ranks = np.arange(min(k, pages))
    first = found / candidates if candidates else 0.0
    rest = (relevant - found) / (pages - candidates) if pages > candidates else 0.0
    chance = np.where(ranks < candidates, first, rest)
    return float((chance * discounts(len(ranks))).sum() / discounts(min(k, relevant)).sum())


def random_ceiling(query_ids: Sequence[str], relevant: Mapping[str, set[str]], pages: int, k: int = 10) -> np.ndarray:
    """Expected NDCG@k (q,) of a reader who knows nothing: chance, over a corpus of `pages` pages."""
    counts = [len(_judged(relevant, query)) for query in query_ids]
    return np.array([expected_ndcg(0, 0, count, pages, k) for count in counts])


def attribute_ceiling(
    query_ids: Sequence[str], relevant: Mapping[str, set[str]], values: Mapping[str, str], k: int = 10
) -> np.ndarray:
    """Expected NDCG@k (q,) of a reader who knows one attribute of the answer and nothing else.

    `values` maps each page id of the corpus to that attribute. The reader puts the pages first that share
    the attribute of the query's relevant pages, in random order, and the others after, in random order.
    """
    members: dict[str, set[str]] = {}
    for page, value in values.items():
        members.setdefault(value, set()).add(page)
    scores = []
    for query in query_ids:
        answers = _judged(relevant, query)
        missing = answers - values.keys()
        if missing:
            raise CourseError(f"Relevant page {min(missing)!r} is not in the corpus table: rebuild the data.")
        known = set().union(*(members[values[page]] for page in answers))
        scores.append(expected_ndcg(len(known), len(answers), len(answers), len(values), k))
    return np.array(scores)


def country_only_ceiling(query_ids: Sequence[str], relevant: Mapping[str, set[str]], table, k: int = 10) -> np.ndarray:
    """Expected NDCG@k (q,) of a reader of the country alone; table rows have `page_id` and `country`."""
    return attribute_ceiling(query_ids, relevant, _column(table, "country"), k)


def topic_only_ceiling(query_ids: Sequence[str], relevant: Mapping[str, set[str]], table, k: int = 10) -> np.ndarray:
    """Expected NDCG@k (q,) of a reader of the topic alone; table rows have `page_id` and `topic`."""
    return attribute_ceiling(query_ids, relevant, _column(table, "topic"), k)


def _column(table, name: str) -> dict[str, str]:
    """`page_id` to a column, from a data frame, a dict of columns, a datasets.Dataset or a list of rows (dicts)."""
    if isinstance(table, (list, tuple)):
        return {row["page_id"]: row[name] for row in table}
    return dict(zip(table["page_id"], table[name], strict=True))
