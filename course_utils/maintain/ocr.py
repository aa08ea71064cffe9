"""`python -m course_utils.maintain.ocr`: the text that OCR reads on each test page, kept in `data/ocr.json.gz`.

It sees the images that the data set holds, and nothing else: neither text layers nor queries. It goes on where it
stopped. With `--part 1 --of 2` in one process and `--part 2 --of 2` in another, each reads half of the pages; the one
that ends last writes the file.
"""

import argparse
import gzip
import json
from importlib.metadata import version
from pathlib import Path

from rapidocr import RapidOCR
from tqdm.auto import tqdm

from course_utils import paths
from course_utils.baselines import OCR_FILE
from course_utils.dataset import page_table
from course_utils.files import atomic_write
from course_utils.machine import cores
from course_utils.pages.build import pages_folder
from course_utils.profiles import TINY

SETTINGS = {  # as in lesson 04
    "Global.log_level": "error",
    "Global.use_cls": False,  # no page is upside down
    "Det.limit_side_len": 448,  # look for lines on the page as it is stored; by default it is enlarged
    "Rec.rec_batch_num": 1,  # one line at a time, without padding
    "Rec.rec_img_shape": [3, 48, 64],
}


def read_pages(files: dict[str, str], folder: Path, part: int = 1, parts: int = 1) -> dict[str, str]:
    """Read every `parts`-th image, from number `part` on; the text of all pages read so far, by page id.

    `files` maps page ids to images. Each part has its own log in `folder`, with a line for each page that is done. The
    logs of all parts are read first, and again at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done, own = _logged(folder), list(files)[part - 1 :: parts]
    engine = RapidOCR(params=SETTINGS | {"EngineConfig.onnxruntime.intra_op_num_threads": max(1, cores() // parts)})
    with open(folder / f"{part}-of-{parts}.jsonl", "a", encoding="utf-8") as log:
        for page in tqdm([page for page in own if page not in done], "reading pages", unit="page"):
            text = " ".join(engine(files[page]).txts or ())
            log.write("\n" + json.dumps([page, text]))  # a line begins anew, also after half a line
            log.flush()
    done = _logged(folder)
    return {page: done[page] for page in files if page in done}


def _logged(folder: Path) -> dict[str, str]:
    """Page id to text of all logs; the last line of each may be half a line, which does not count."""
    texts = {}
    for log in sorted(folder.glob("*.jsonl")):
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                texts.update([json.loads(line)])
            except ValueError:
                continue
    return texts


def main() -> None:
    """Read the test pages of one part; write the file when all of them have been read."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--part", type=int, default=1, help="which part of the pages this process reads, from 1")
    arguments.add_argument("--of", type=int, default=1, help="how many parts there are")
    chosen = arguments.parse_args()
    if not 1 <= chosen.part <= chosen.of:
        arguments.error(f"--part {chosen.part} --of {chosen.of}: a part is a number from 1 to the number of parts.")
    table, name = page_table(TINY), pages_folder().name
    files = table["path"][table["split"] == "test"].to_dict()
    texts = read_pages(files, paths.BUILD / "ocr" / name, chosen.part, chosen.of)
    if len(texts) < len(files):
        print(f"{len(texts)} of {len(files)} pages are read: the part that ends last writes {OCR_FILE.name}.")
        return
    content = {"pages": name, "engine": f"rapidocr {version('rapidocr')}", "texts": texts}
    atomic_write(OCR_FILE, gzip.compress(json.dumps(content, indent=0, ensure_ascii=False).encode(), mtime=0))
    print(f"{OCR_FILE}: {len(texts)} pages, {OCR_FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
