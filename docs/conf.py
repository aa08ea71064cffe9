"""How Sphinx makes the book; `course book` puts the lessons and the report beside this file first."""

project = "Multimodal embeddings"
html_title = project
author = copyright = ""
language = "en"
extensions = ["myst_nb"]
exclude_patterns = ["requirements.*"]

nb_execution_mode = "off"  # the lessons were executed by `course run`
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_theme_options = {"home_page_in_toc": True, "use_fullscreen_button": False, "navbar_persistent": []}
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_show_search_summary = False  # would be fetched, which a browser refuses for a page opened from a disk
html_show_copyright = html_show_sphinx = False
