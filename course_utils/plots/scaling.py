"""Work on several workers."""

import pandas as pd
from matplotlib.figure import Figure

from course_utils.plots.style import MARKS, OTHER, canvas, need


def timeline(batches: pd.DataFrame, title: str = "Who encoded when") -> Figure:
    """A bar for each batch from its begin to its end, one row a worker, in the order in which they began.

    batches: a row a page with the columns worker (its process id), began and ended (seconds). Raises CourseError for none.
    """
    need(len(batches), "the pages that were encoded")
    start = batches["began"].min()
    workers = list(batches.sort_values("began")["worker"].drop_duplicates())
    with canvas(1.4 + 0.5 * len(workers)) as (fig, axes):
        for (worker, began, ended), pages in batches.groupby(["worker", "began", "ended"]):
            row = workers.index(worker)
            color = MARKS[row][0] if row < len(MARKS) else OTHER
            axes.barh(row, ended - began, left=began - start, height=0.6, color=color, edgecolor="white")
            if ended - began > (batches["ended"].max() - start) / 40:  # wide enough for a number
                axes.text((began + ended) / 2 - start, row, str(len(pages)), ha="center", va="center", color="white")
        axes.set_yticks(range(len(workers)), [f"worker {k + 1}" for k in range(len(workers))])
        axes.invert_yaxis()
        axes.set(xlabel="seconds since the first batch began; the number is a batch's pages", title=title)
    return fig
