"""Your own documents: PDFs to pages, text for scans, judgements by hand, and a search that follows its folder."""

from course_utils.documents.judging import judge, read_judgements, read_queries, write_judgements
from course_utils.documents.ranking import bm25, fuse
from course_utils.documents.reading import Reading, read_folder
from course_utils.documents.reports import print_reports
from course_utils.documents.scans import read_scans
from course_utils.documents.store import MANUAL, embed_pages, load_collection, mark, save_collection

__all__ = [
    "MANUAL",
    "Reading",
    "bm25",
    "embed_pages",
    "fuse",
    "judge",
    "load_collection",
    "mark",
    "print_reports",
    "read_folder",
    "read_judgements",
    "read_queries",
    "read_scans",
    "save_collection",
    "write_judgements",
]
