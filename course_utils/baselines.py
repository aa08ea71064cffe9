"""What readers who know too little would score: the lines that every score is read against."""

from collections.abc import Mapping, Sequence

import numpy as np

from course_utils import evaluation


def ceilings(
    query_ids: Sequence[str], relevant: Mapping[str, set[str]], page_ids: Sequence[str], table=None, k: int = 10
) -> dict[str, np.ndarray]:
    """Expected NDCG@k of each query, shape (q,), for readers of nothing, of the topic alone, of the country alone.

    `relevant` maps a query id to its relevant page ids, `page_ids` are the pages of the corpus. `table` has a row
    for each of them, indexed by page id, with `topic` and `country`; without it, only "random" is returned.
    The values are exact means over all orders in which such a reader could guess, so nothing is drawn.
    Raises CourseError for a query without a judgement, or a judged page that is not in the corpus.
    """
    scores = {"random": evaluation.random_ceiling(query_ids, relevant, len(page_ids), k)}
    if table is not None:
        for attribute in ("topic", "country"):
            values = dict(zip(page_ids, table.loc[list(page_ids), attribute], strict=True))
            scores[f"{attribute}-only"] = evaluation.attribute_ceiling(query_ids, relevant, values, k)
    return scores
