"""Two clouds of vectors in two dimensions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.plots.results import AFTER, BEFORE, STYLE, _drawn


def clouds(kinds: Mapping[str, np.ndarray], title: str = "Queries and pages in one space") -> Figure:
    """Vectors (n, d) of two kinds, seen from where the gap between them shows.

    Across: the direction from one centroid to the other. Up: of the directions at right angles to it, the one in which all
    vectors differ most. A large mark is a kind's centroid. Raises CourseError for another number of kinds, or an empty one.
    """
    if len(kinds) != 2 or any(len(vectors) < 2 for vectors in kinds.values()):
        raise CourseError("A gap lies between two kinds of vectors: give two of them, with two vectors each at least.")
    first, second = kinds.values()
    everything = np.concatenate([first, second])
    middle = everything.mean(axis=0)
    across = second.mean(axis=0) - first.mean(axis=0)
    across = across / max(np.linalg.norm(across), 1e-12)
    rest = (everything - middle) - np.outer((everything - middle) @ across, across)
    up = np.linalg.svd(rest, full_matrices=False)[2][0]
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(6.5, 5), layout="constrained")
        for (name, vectors), color, marker in zip(kinds.items(), (AFTER, BEFORE), "Do"):
            places = (vectors - middle) @ np.stack([across, up], axis=1)
            axes.scatter(*places.T, color=color, marker=marker, s=18, alpha=0.5, label=f"{name}, n={len(vectors)}")
            axes.scatter(*places.mean(axis=0), color=color, marker=marker, s=220, edgecolor="white", lw=2)
        axes.set_xlabel("along the line from centroid to centroid (unit vectors)")
        axes.set_ylabel("along the widest direction across it")
        axes.set_title(title)
        axes.legend(frameon=False)
    return _drawn(fig)
