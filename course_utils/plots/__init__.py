"""Every plot of the lessons: `plots.gallery(...)`. One module a theme."""

from course_utils.plots.compare import by_budget, chance, gains, shares, size_and_score
from course_utils.plots.inputs import clouds
from course_utils.plots.measure import interval_width, systems
from course_utils.plots.memory import by_batch_size, score_by_batch_size, similarity_matrix
from course_utils.plots.models import cost_of_pixels
from course_utils.plots.rerank import by_depth, reliability
from course_utils.plots.results import before_after, by_dimension, gallery, pages_row, training_curve

__all__ = [
    "before_after",
    "by_batch_size",
    "by_budget",
    "by_depth",
    "by_dimension",
    "chance",
    "clouds",
    "cost_of_pixels",
    "gains",
    "gallery",
    "interval_width",
    "pages_row",
    "reliability",
    "score_by_batch_size",
    "shares",
    "similarity_matrix",
    "size_and_score",
    "systems",
    "training_curve",
]
