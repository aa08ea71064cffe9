"""A search page for the course's collection: `course serve`, or `search.start(search.load_engine(profile))`.

The server is FastAPI on uvicorn, and the page is three small files. Gradio would draw the page for us, but it brings
some thirty packages (its own pins of pandas and pillow among them), its page is not ours to check with a keyboard or
at 390 px, and what it answers to bad input is not ours to word. FastAPI checks parameters by their types, answers
many clients from a pool of threads, and adds three packages that this environment did not have.
"""

from course_utils.search.engine import Engine
from course_utils.search.load import load_engine, page_texts
from course_utils.search.server import Server, start

__all__ = ["Engine", "Server", "load_engine", "page_texts", "start"]
