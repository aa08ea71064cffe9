"""`course trials`: lesson 07 with other seeds, learning rates and amounts of wording, for `data/precomputed`."""

import json
import shutil
from collections.abc import Callable, Sequence

from datasets import load_dataset

from course_utils import finetuned, paths
from course_utils.dataset import prepare_dataset
from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.pages.facts import wordings
from course_utils.profiles import PROFILES
from course_utils.runner.lessons import find_lessons
from course_utils.runner.run import run_lessons

# Parameters of the lesson. The last two make as many steps as one epoch of all rows.
TRIALS = {
    "seed-0": {},
    "seed-1": {"SEED": 1},
    "seed-2": {"SEED": 2},
    "rate-0.000125": {"RATE": 1.25e-4},
    "rate-0.002": {"RATE": 2e-3},
    "rows-64": {"ROWS": 64, "EPOCHS": 31},
    "rows-256": {"ROWS": 256, "EPOCHS": 8},
}
TINY = PROFILES["tiny"]


def phrases(rows: int, seed: int) -> int:
    """How many of the phrases for a topic stand in the training queries; of two that match, the longer counts."""
    data = load_dataset(prepare_dataset(TINY), "train", split="train").shuffle(seed=seed).select(range(rows))
    course = sorted({phrase for topic in wordings().values() for phrase in topic["course"]}, key=len, reverse=True)
    queries = [query.lower() for query in data.select_columns(["query"])["query"]]
    return len({next((phrase for phrase in course if phrase.lower() in query), None) for query in queries} - {None})


def trials(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Run these trials (all, if none is named) one after the other; finished ones are left as they are.

    When all are there, writes `trials.json` and the embeddings of seed 0 to `data/precomputed`. Raises CourseError for
    an unknown name, or if one did not finish.
    """
    if unknown := set(names) - TRIALS.keys():
        raise CourseError(f"No such trial: {', '.join(sorted(unknown))}. There are {', '.join(TRIALS)}.")
    folder, lesson = paths.BUILD / "trials", find_lessons(paths.SOLUTIONS, ["07"])
    for name in names or TRIALS:
        (record,) = run_lessons(lesson, TINY, folder / name, TRIALS[name], "solutions", resume=True, say=say)
        if record.status != "finished":
            raise CourseError(f"{name} did not finish: its notebook is in {folder / name}.")
    results = {name: folder / name / finetuned.LESSON for name in TRIALS}
    if not all((result / "metrics.json").exists() for result in results.values()):
        return say("Some trials are still missing: data/precomputed is as it was.")
    found = {}
    for name, result in results.items():
        metrics = json.loads((result / "metrics.json").read_text(encoding="utf-8"))["metrics"]
        found[name] = {key: value for key, value in metrics.items() if key.startswith("ndcg@10/")}
        values = TRIALS[name]
        found[name]["phrases"] = phrases(values.get("ROWS", TINY.train_rows), values.get("SEED", 0))
    atomic_write(paths.DATA / "precomputed" / "trials.json", json.dumps(found, indent=1) + "\n")
    shutil.copy(results["seed-0"] / finetuned.FILE, paths.DATA / "precomputed" / finetuned.FILE)
    say("data/precomputed is renewed.")
