"""The figure of the lesson on loading: what pixels cost."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.plots.results import AFTER, BEFORE, STYLE, WIDTH, _drawn


def cost_of_pixels(table: pd.DataFrame) -> Figure:
    """Image tokens and milliseconds a page by pixel budget, in two panels that share the horizontal axis.

    table: columns `pixels`, `image tokens`, `ms a page`, a row for each budget. Drawn, not shown.
    """
    if len(table) < 2:
        raise CourseError("A line needs two pixel budgets at least.")
    with plt.rc_context(STYLE):
        fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
        for axes, column, color, marker in zip(panels, ("image tokens", "ms a page"), (BEFORE, AFTER), "oD"):
            axes.plot(table["pixels"] / 1000, table[column], color=color, marker=marker, lw=2)
            axes.set_xlabel("pixel budget (thousands of pixels)")
            axes.set_ylabel({"image tokens": "image tokens a page", "ms a page": "milliseconds a page"}[column])
            axes.set_ylim(0, table[column].max() * 1.15)
            axes.set_xlim(0, None)
        fig.suptitle("What pixels cost (one run on this machine)")
    return _drawn(fig)
