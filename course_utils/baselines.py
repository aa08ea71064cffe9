"""What readers who know too little would score: the lines that every score is read against."""

import gzip
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.evaluation import expected_ndcg, random_ceiling
from course_utils.pages.build import pages_folder

OCR_FILE = paths.DATA / "ocr.json.gz"


def ceilings(
    query_ids: Sequence[str],
    relevant: Mapping[str, set[str]],
    page_ids: Sequence[str],
    table: pd.DataFrame | None = None,
    k: int = 10,
) -> dict[str, np.ndarray]:
    """Expected NDCG@k of each query, shape (q,), for readers of nothing, of the topic alone, of the country alone.

    `relevant` maps a query id to its relevant page ids, `page_ids` are the pages of the corpus. `table` has a row
    for each of them, indexed by page id, with `topic` and `country`; without it, only "random" is returned.
    Such a reader ranks the pages first that share the attribute of a relevant one, in random order, then the others.
    The values are exact means over all these orders, so nothing is drawn.
    Raises CourseError for a query without a judgement, or a judged page that is not in the corpus.
    """
    scores = {"random": random_ceiling(query_ids, relevant, len(page_ids), k)}
    unknown = {page for query in query_ids for page in relevant[query]} - set(page_ids)
    if unknown:
        raise CourseError(f"Relevant page {min(unknown)!r} is not in the corpus: build corpus and judgements together.")
    for attribute in ("topic", "country") if table is not None else ():
        value = table.loc[list(page_ids), attribute]
        size = value.value_counts()
        scores[f"{attribute}-only"] = np.array(
            [
                expected_ndcg(int(size[value[list(answers)].unique()].sum()), len(answers), len(answers), len(value), k)
                for answers in (relevant[query] for query in query_ids)
            ]
        )
    return scores


def ocr_texts() -> dict[str, str]:
    """The text that OCR read on each test page's image, by page id: precomputed, with its errors.

    Raises CourseError if the file is missing, damaged or of other pages than those that are drawn today.
    """
    try:
        content = json.loads(gzip.decompress(OCR_FILE.read_bytes()))
    except (OSError, EOFError, ValueError):
        content = {}
    if content.get("pages") != pages_folder().name:
        raise CourseError(
            f"data/{OCR_FILE.name} is missing, damaged or of other pages: restore it with `git checkout data`, or make "
            "it with `python -m course_utils.maintain.ocr`."
        )
    return content["texts"]
