"""What lesson 00 shows of the course: is this machine ready, which profiles there are, how long each lesson takes."""

from dataclasses import asdict

import pandas as pd

from course_utils.paths import NOTEBOOKS
from course_utils.profiles import PROFILES
from course_utils.runner.lessons import find_lessons, format_minutes
from course_utils.runner.setup_check import Setup, check_setup

__all__ = ["Setup", "check_setup", "lesson_table", "profile_table"]


def profile_table() -> pd.DataFrame:
    """What each profile needs and runs: a column for each of them."""
    fields = {"hardware": "hardware", "embedder": "model", "dataset": "data", "train_rows": "rows to train on"}
    fields |= {"dtype": "number format", "lora": "LoRA", "network": "network"}
    values = {name: asdict(profile) for name, profile in PROFILES.items()}
    return pd.DataFrame(
        {name: {label: found[field] for field, label in fields.items()} for name, found in values.items()}
    )


def lesson_table() -> pd.DataFrame:
    """Minutes that each lesson takes to learn, its time and memory in each profile, and the times of all together."""
    headers = [lesson.header() for lesson in find_lessons(NOTEBOOKS)]
    learning = {h.title: format_minutes(h.learning) for h in headers}
    table = {"to learn": learning | {"all of them": format_minutes(sum(h.learning or 0 for h in headers))}}
    for name in PROFILES:
        needs = {h.title: f"{format_minutes(h.minutes.get(name))}, {h.memory.get(name, 0):g} GB" for h in headers}
        table[name] = needs | {"all of them": format_minutes(sum(h.minutes.get(name, 0) for h in headers))}
    return pd.DataFrame(table)
