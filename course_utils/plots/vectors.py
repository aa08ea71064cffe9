"""Vectors and their similarities."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from course_utils.errors import CourseError
from course_utils.plots.style import PAIR, canvas


def clouds(kinds: Mapping[str, np.ndarray], title: str = "Queries and pages in one space") -> Figure:
    """Vectors (n, d) of two kinds, seen from where the gap between them shows.

    Across: the direction from one centroid to the other. Up: of the directions at right angles to it, the one in which
    all vectors differ most. A large mark is a kind's centroid. Raises CourseError for another number of kinds, or an
    empty one.
    """
    if len(kinds) != 2 or any(len(vectors) < 2 for vectors in kinds.values()):
        raise CourseError("A gap lies between two kinds of vectors: give two of them, with two vectors each at least.")
    first, second = (np.asarray(vectors, dtype=np.float32) for vectors in kinds.values())
    everything = np.concatenate([first, second])
    middle = everything.mean(axis=0)
    across = second.mean(axis=0) - first.mean(axis=0)
    across = across / max(np.linalg.norm(across), 1e-12)
    rest = (everything - middle) - np.outer((everything - middle) @ across, across)
    up = np.linalg.svd(rest, full_matrices=False)[2][0]
    with canvas(5, width=6.5) as (fig, axes):
        for name, vectors, (_, color, marker) in zip(kinds, (first, second), reversed(PAIR), strict=True):
            places = (vectors - middle) @ np.stack([across, up], axis=1)
            axes.scatter(*places.T, color=color, marker=marker, s=18, alpha=0.5, label=f"{name}, n={len(vectors)}")
            axes.scatter(*places.mean(axis=0), color=color, marker=marker, s=220, edgecolor="white", lw=2)
        axes.set_xlabel("along the line from centroid to centroid (unit vectors)")
        axes.set(ylabel="along the widest direction across it", title=title)
        axes.legend(frameon=False)
    return fig


def similarity_matrix(similarity, queries: Sequence[str], title: str = "Who competes with whom") -> Figure:
    """Cosines of queries (rows) and pages (columns), shape (q, n); column k is row k's own page, and has a border."""
    values = np.asarray(similarity, dtype=float)
    if values.ndim != 2 or not 0 < len(values) == len(queries) <= values.shape[1]:
        raise CourseError(
            f"Give one row for each of the {len(queries)} queries and at least as many pages; this is {values.shape}."
        )
    with canvas(1.6 + 0.42 * len(values), style={"axes.grid": False}) as (fig, axes):
        picture = axes.imshow(values, cmap="cividis", aspect="auto")
        for k in range(len(values)):
            axes.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor="white", lw=3))
        if len(values) < values.shape[1]:
            axes.axvline(len(values) - 0.5, color="white", lw=3)
        axes.set_yticks(range(len(queries)), [text if len(text) <= 38 else f"{text[:37]}…" for text in queries])
        axes.set_xticks(range(values.shape[1]), [str(k + 1) for k in range(values.shape[1])])
        axes.set(xlabel=f"page of the batch: 1 to {len(values)} positives, then hard negatives", title=title)
        fig.colorbar(picture, ax=axes, label="cosine similarity")
    return fig
