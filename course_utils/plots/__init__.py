"""Every plot of the lessons: `plots.gallery(...)`. One module a theme."""

from course_utils.plots.certainty import chance, forest, gains
from course_utils.plots.galleries import gallery, pages_row
from course_utils.plots.scaling import timeline
from course_utils.plots.scores import before_after, by_depth, by_dimension, shares, size_and_score, systems
from course_utils.plots.storage import by_bytes, by_pages, by_vectors
from course_utils.plots.training import by_batch_size, by_budget, by_wordings, cost_of_pixels, training_curve
from course_utils.plots.vectors import clouds, similarity_matrix

__all__ = [
    "before_after",
    "by_batch_size",
    "by_budget",
    "by_bytes",
    "by_depth",
    "by_dimension",
    "by_pages",
    "by_vectors",
    "by_wordings",
    "chance",
    "clouds",
    "cost_of_pixels",
    "forest",
    "gains",
    "gallery",
    "pages_row",
    "shares",
    "similarity_matrix",
    "size_and_score",
    "systems",
    "timeline",
    "training_curve",
]
