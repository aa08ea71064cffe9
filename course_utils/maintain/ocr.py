"""`python -m course_utils.maintain.ocr`: the text that OCR reads on each test page, kept in `data/ocr.json.gz`.

It takes a quarter of an hour on one core and goes on where it stopped. It sees the images that the data set holds, and nothing
else: neither text layers nor queries.
"""

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
    "EngineConfig.onnxruntime.intra_op_num_threads": cores(),
}


def read_pages(files: dict[str, str], log: Path) -> dict[str, str]:
    """The text on each image, by page id; `log` has a line for each page that is done, and is read first."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    texts = dict(json.loads(line) for line in lines if line.endswith("\n"))  # the last one may be half a line
    atomic_write(log, "".join(json.dumps(pair) + "\n" for pair in texts.items()))
    engine = RapidOCR(params=SETTINGS)
    with open(log, "a", encoding="utf-8") as stream:
        for page, file in tqdm(files.items(), "reading pages", unit="page"):
            if page not in texts:
                texts[page] = " ".join(engine(file).txts or ())
                stream.write(json.dumps([page, texts[page]]) + "\n")
                stream.flush()
    return {page: texts[page] for page in files}


def main() -> None:
    """Read all pages of the test split and write the file."""
    table = page_table(TINY)
    name = pages_folder().name
    texts = read_pages(table["path"][table["split"] == "test"].to_dict(), paths.BUILD / "ocr" / f"{name}.jsonl")
    content = {"pages": name, "engine": f"rapidocr {version('rapidocr')}", "texts": texts}
    atomic_write(OCR_FILE, gzip.compress(json.dumps(content, indent=0, ensure_ascii=False).encode(), mtime=0))
    print(f"{OCR_FILE}: {len(texts)} pages, {OCR_FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
