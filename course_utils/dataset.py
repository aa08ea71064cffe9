"""The one data call of all lessons: pages drawn here, or a published data set of the Hub."""

import pandas as pd

from course_utils.checkpoints import on_hub
from course_utils.pages.build import build_pages
from course_utils.profiles import Profile


def prepare_dataset(profile: Profile) -> str:
    """What `load_dataset` takes: the folder of the drawn pages (drawn on first use), or what `on_hub` gives."""
    return str(build_pages()) if profile.drawn else on_hub(profile.dataset, "dataset")


def page_table(profile: Profile) -> pd.DataFrame | None:
    """One row a drawn page, indexed by page id, or None where pages are not drawn here.

    Columns: path (of the image), split, country, topic, form, layout, scan, unseen_country, text (of the text layer).
    """
    if not profile.drawn:
        return None
    folder = build_pages()
    table = pd.read_parquet(folder / "pages.parquet").set_index("page_id")
    table.insert(0, "path", [f"{folder.resolve().as_posix()}/{file}" for file in table.pop("file")])
    return table
