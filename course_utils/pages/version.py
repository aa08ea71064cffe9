"""The data version: a number for what is drawn and asked, beside hashes that tell when to raise it."""

import hashlib
import json
from dataclasses import asdict

from PIL import features

from course_utils.files import atomic_write
from course_utils.pages.build import CONFIGS, VERSION_FILE, data_version, rows, sheets


def hashes() -> dict:
    """What the version stands for, without drawing more than a page of each layout, and a scan of each.

    queries: hash of all rows of all splits, and of how each page is drawn. pages: hashes of the pixels of a dozen pages by
    page id, scans before JPEG. rasteriser: what drew their letters. FreeType comes with Pillow and HarfBuzz with it,
    but raqm works only where the system has FriBiDi. With another rasteriser, letters differ by a pixel or two.
    """
    drawn = sheets()
    asked = {split: rows(split, drawn).to_dict("records") for split in CONFIGS.values()}
    told = json.dumps([asked, [asdict(sheet) for sheet in drawn.values()]])
    chosen = {(sheet.layout, sheet.scan): sheet for sheet in drawn.values()}
    return {
        "queries": hashlib.sha256(told.encode()).hexdigest(),
        "rasteriser": ", ".join(f"{name} {features.version(name)}" for name in ("freetype2", "raqm")),
        "pages": {s.page_id: hashlib.sha256(s.draw().image.tobytes()).hexdigest() for s in chosen.values()},
    }


def problem() -> str:
    """What differs from the hashes in `data/version.json`, as a sentence that says what to do; "" where nothing does.

    Pages are compared only where the letters are drawn by the rasteriser that drew the stored ones.
    """
    stored, now = json.loads(VERSION_FILE.read_text(encoding="utf-8")), hashes()
    same_letters = stored.get("rasteriser") == now["rasteriser"]
    changed = [
        key for key in ("queries", "pages") if stored.get(key) != now[key] and (key == "queries" or same_letters)
    ]
    what = " and ".join(changed)
    return f"The {what} changed: raise the version with `python -m course_utils.pages.version`." if changed else ""


def raise_version() -> int:
    """Write the next version with today's hashes, where queries or pages changed; returns the version."""
    version = data_version() + bool(problem())
    atomic_write(VERSION_FILE, json.dumps({"version": version} | hashes(), indent=1) + "\n")
    return version


if __name__ == "__main__":
    print(f"The data version is {raise_version()}.")
