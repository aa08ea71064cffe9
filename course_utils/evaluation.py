"""Scores per query, their intervals and tests, and pages that are there twice.

Everything is NumPy on the CPU; embeddings may be NumPy arrays or torch tensors of any dtype.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256 as digest
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256

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
    the smaller id as in `InformationRetrievalEvaluator`.
    """
    queries, pages = _unit_rows(query_embeddings), _unit_rows(page_embeddings)
    if len(pages) != len(set(page_ids)):
        raise CourseError(
            f"{len(pages)} page embeddings need as many distinct page ids, there are "
            f"{len(set(page_ids))}: deduplicate the pages before embedding them."
        )
    by_id = np.argsort(np.asarray(page_ids), kind="stable")
    pages, ids = pages[by_id], [page_ids[i] for i in by_id]
    best = np.argsort(-(queries @ pages.T), axis=1, kind="stable")[:, :k]
    return [[ids[i] for i in row] for row in best]


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
    ranked = rankings(query_embeddings, page_embeddings, page_ids, k)
    judged = [_judged(relevant, query) for query in query_ids]
    return np.array([ndcg_at_k(row, pages, k) for row, pages in zip(ranked, judged, strict=True)])


def _judged(relevant: Mapping[str, set[str]], query: str) -> set[str]:
    if not relevant.get(query):
        raise CourseError(f"Query {query!r} has no relevant page: leave it out, or add its judgement.")
    return relevant[query]


def write_trec(
    folder: Path, name: str, query_ids: Sequence[str], ranked: Sequence[Sequence[str]], relevant: Mapping[str, set[str]]
) -> tuple[Path, Path]:
    """Write a ranking as `<name>.run` and the judgements as `<name>.qrels`, as TREC's tools read them; the two paths.

    ranked: the page ids of each query, best first, as `rankings` returns them. The format cannot hold names and ids
    with spaces. Raises CourseError for a query without a judgement.
    """
    run, qrels = [], []
    for query, pages in zip(query_ids, ranked, strict=True):
        run += [f"{query} Q0 {page} {rank} {len(pages) - rank} {name}\n" for rank, page in enumerate(pages, start=1)]
        qrels += [f"{query} 0 {page} 1\n" for page in sorted(_judged(relevant, query))]
    files = Path(folder) / f"{name}.run", Path(folder) / f"{name}.qrels"
    return atomic_write(files[0], "".join(run)), atomic_write(files[1], "".join(qrels))


def _unit_rows(embeddings) -> np.ndarray:
    """Rows of length one, float32 (n, d), from an array or a torch tensor."""
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().float().cpu().numpy()
    rows = np.asarray(embeddings, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise CourseError("Some embeddings are not finite: look at the loss, and lower the learning rate.")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


# --- Intervals ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate, its 95% interval (ends rounded to three places), and the number of queries that it stands on."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:z.3f} [{self.low:z.3f}, {self.high:z.3f}], n={self.n}"


def bootstrap(scores, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of per-query scores (q,) with a 95% percentile bootstrap interval (Efron & Tibshirani 1993).

    The interval says how far the mean moves with other queries of the same kind; it says nothing
    about another training seed.
    """
    return _interval(np.mean, [_scores(scores)], seed, resamples)


def paired_bootstrap(before, after, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of after - before with its interval; both (q,), of the same queries in the same order.

    Each resample draws the same queries for both, so what makes a query hard for both cancels out.
    """
    before, after = _pair(before, after)
    return _interval(np.mean, [after - before], seed, resamples)


def error_cut(before, after, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Share of the error that is gone, 1 - (1 - after) / (1 - before), with a paired bootstrap interval.

    before, after: scores in [0, 1] of the same queries, shape (q,). 0.6 means that 60% of the distance
    to a perfect score was covered; negative means that it grew. Resamples in which `before` is perfect
    have no such share and are left out.
    """
    before, after = _pair(before, after)
    if before.mean() >= 1:
        raise CourseError("The first scores are perfect, so there is no error to cut: compare the means instead.")

    def share(error_before, error_after, axis=-1):
        left, there = error_after.mean(axis=axis), error_before.mean(axis=axis)
        return 1 - np.divide(left, there, out=np.full_like(left, np.nan), where=there > 1e-12)

    return _interval(share, [1 - before, 1 - after], seed, resamples)


def randomisation_test(before, after, seed: int = 0, resamples: int = 10_000) -> float:
    """p of the mean difference, two-sided, by a paired randomisation test; before and after (q,).

    If both models were equally good, the sign of each query's difference would be chance. p is the share of random
    signs, the real ones counted among them, whose mean is at least as far from zero (Smucker et al. 2007).
    """
    before, after = _pair(before, after)
    if len(before) == 1:
        return 1.0  # scipy refuses it; both signs are as far from zero

    def distance(differences, axis=-1):
        return np.abs(differences.mean(axis=axis))

    options = {"permutation_type": "samples", "alternative": "greater"} | _draws(before, seed, resamples)
    return float(stats.permutation_test([after - before], distance, **options).pvalue)


def by_slice(
    scores, slices: Mapping[str, Sequence[bool]], seed: int = 0, resamples: int = 10_000
) -> dict[str, Interval]:
    """Interval of each named slice; a slice is a boolean mask (q,) over the scores (q,)."""
    scores = _scores(scores)
    return {name: bootstrap(scores[np.asarray(mask, bool)], seed, resamples) for name, mask in slices.items()}


def _interval(statistic: Callable, columns: Sequence[np.ndarray], seed: int, resamples: int) -> Interval:
    """The statistic of columns (q,), the same queries drawn for all of them, with its interval."""
    estimate, queries = float(statistic(*columns, axis=-1)), len(columns[0])
    if queries == 1:  # which scipy refuses; every resample is the same
        return Interval(estimate, estimate, estimate, 1)
    options = {"paired": True, "method": "percentile"} | _draws(columns[0], seed, resamples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # where `error_cut` leaves resamples out
        drawn = stats.bootstrap(columns, statistic, **options).bootstrap_distribution
    low, high = np.round(np.nanpercentile(drawn, [2.5, 97.5]), 3)  # as printed, so that code and reader agree on zero
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), queries)


def _draws(scores: np.ndarray, seed: int, resamples: int) -> dict[str, Any]:
    """How scipy draws for scores (q,): vectorised, in batches that keep memory small, always the same for a seed."""
    batch = max(1, RESAMPLE_BYTES // (24 * len(scores)))
    return {"n_resamples": resamples, "batch": batch, "vectorized": True, "rng": np.random.default_rng(seed)}


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

    A content is a file path (its bytes are hashed), bytes, or a PIL image (its pixels are hashed).
    `set(result.values())` are the pages to embed.
    """
    first: dict[str, str] = {}
    return {page: first.setdefault(_content_key(content), page) for page, content in zip(ids, contents, strict=True)}


def merge_judgements(relevant: Mapping[str, Iterable[str]], canonical: Mapping[str, str]) -> dict[str, set[str]]:
    """Judgements in canonical page ids, so that a page which is there twice counts once.

    Without this, a perfect model that puts both copies on top is punished for the copy that nobody judged.
    """
    return {query: {canonical[page] for page in pages} for query, pages in relevant.items()}


def _content_key(content) -> str:
    if isinstance(content, bytes):
        return digest(content).hexdigest()
    if hasattr(content, "tobytes") and hasattr(content, "mode"):
        return digest(f"{content.mode}{content.size}".encode() + content.tobytes()).hexdigest()
    return sha256(Path(content))


# --- Chance -------------------------------------------------------------------------------------


def random_ceiling(query_ids: Sequence[str], relevant: Mapping[str, set[str]], pages: int, k: int = 10) -> np.ndarray:
    """Expected NDCG@k (q,) of a reader who knows nothing: chance, over a corpus of `pages` pages."""
    counts = [len(_judged(relevant, query)) for query in query_ids]
    return np.array([expected_ndcg(pages, count, count, pages, k) for count in counts])


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
