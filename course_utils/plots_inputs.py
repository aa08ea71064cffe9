"""Clouds of vectors of several kinds in two dimensions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.plots import AFTER, BEFORE, STYLE, _drawn


def clouds(kinds: Mapping[str, np.ndarray], title: str = "Queries and pages in one space") -> Figure:
    """Vectors (n, d) of one or two kinds in the two directions in which all of them together differ most (PCA).

    The axes say how much of the squared distances from the mean each direction holds. A large mark is a kind's centroid.
    Raises CourseError without a second vector, or for more than two kinds.
    """
    everything = np.concatenate(list(kinds.values())) if kinds else np.empty((0, 0))
    if len(everything) < 2 or len(kinds) > 2:
        raise CourseError("Two dimensions need two vectors at least, of one or two kinds.")
    middle = everything.mean(axis=0)
    _, strengths, directions = np.linalg.svd(everything - middle, full_matrices=False)
    shares = strengths**2 / max((strengths**2).sum(), 1e-12)
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(6.5, 5), layout="constrained")
        for (name, vectors), color, marker in zip(kinds.items(), (AFTER, BEFORE), "Do"):
            places = (vectors - middle) @ directions[:2].T
            axes.scatter(*places.T, color=color, marker=marker, s=18, alpha=0.5, label=f"{name}, n={len(vectors)}")
            axes.scatter(*places.mean(axis=0), color=color, marker=marker, s=220, edgecolor="white", lw=2)
        for label, share in zip((axes.set_xlabel, axes.set_ylabel), shares):
            label(f"direction with {share:.0%} of the spread")
        axes.set_title(title)
        axes.legend(frameon=False)
    return _drawn(fig)
